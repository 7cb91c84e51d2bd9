"""Ratios that the design promises, measured in one run on one machine: python benchmarks/speed.py [--patients N].

1. One epoch of ours (packed tensors, length buckets, encoders on present rows) against the same model fed by a plain
   DataLoader over per-sample dicts: random batches, every modality padded for every patient, encoders on all rows.
2. Epochs with a frozen encoder recomputed each time against its cached features.
3. One study with two workers against the same study with one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from experiments.config import StudyConfig, load_config, parse_config
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.features import feature_source
from experiments.feeding import build_model, preparations
from experiments.workspace import open_store
from fusion import Architecture, FusionModel, Spec
from fusion.task import loss

ARCHITECTURE = Architecture(
    {
        "codes": Spec("transformer"),
        "notes": Spec("transformer"),
        "images": Spec("conv"),
        "graph": Spec("ancestors"),
    },
    Spec("cross_attention"),
    64,
)


class PerSample(Dataset[dict[str, Any]]):
    """What most code does: one dict of tensors a patient, absent modalities as a single padded item."""

    def __init__(self, store: Store, plans: Mapping[str, Any], rows: torch.Tensor) -> None:
        self.samples = []
        for row in rows:
            one = {name: store.source(plan).collate(row.reshape(1)) for name, plan in plans.items()}
            self.samples.append({"inputs": one, "target": torch.as_tensor(store.cohort.targets[int(row)])})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def collate(samples: list[dict[str, Any]]) -> tuple[dict[str, Any], torch.Tensor]:
    """Pad every field of every modality to the longest of the batch."""
    inputs = {}
    for name, first in samples[0]["inputs"].items():
        fields = zip(*(sample["inputs"][name] for sample in samples), strict=True)
        inputs[name] = type(first)(*(pad_sequence([each[0] for each in field], batch_first=True) for field in fields))
    return inputs, torch.stack([sample["target"] for sample in samples])


class AllRows(torch.nn.Module):
    """The same network without the present-rows shortcut."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        tokens = {name: encoder(inputs[name]) for name, encoder in self.model.encoders.items()}
        return self.model.predict(self.model.fusion(tokens))


def seconds(function: Callable[[], None], repeats: int = 3) -> float:
    """Return the fastest of some calls, after one to warm up."""
    function()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def fit_step(store: Store, model: torch.nn.Module, optimizer: torch.optim.Optimizer, inputs: Any, target: Any) -> None:
    """Do one training step."""
    optimizer.zero_grad(set_to_none=True)
    loss(store.task, model(inputs), target).backward()
    optimizer.step()


def epochs(store: Store, preprocess: Mapping[str, Any]) -> float:
    """Measure ratio 1."""
    plans = preparations(ARCHITECTURE, preprocess)
    store.prepare(list(plans.values()))
    model = build_model(ARCHITECTURE, {m: store.preprocessor(p) for m, p in plans.items()}, store.task.outputs)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rows = store.cohort.rows("train")
    feeds = {name: store.source(plan) for name, plan in plans.items()}

    def ours() -> None:
        for batch in iterate_batches(feeds, store.cohort.targets, rows, 64, shuffle=0):
            fit_step(store, model, optimizer, batch.inputs, batch.target)

    samples = PerSample(store, plans, torch.as_tensor(rows))
    plain_model = AllRows(model)

    def plain() -> None:
        for inputs, target in DataLoader(samples, batch_size=64, shuffle=True, collate_fn=collate):
            fit_step(store, plain_model, optimizer, inputs, target)

    return seconds(plain) / seconds(ours)


def frozen(store: Store, preprocess: Mapping[str, Any], folder: Path) -> float:
    """Measure ratio 2 with a small BERT of random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    notes = Spec("pretrained", {"model": str(folder), "frozen": True, "max_tokens": 128})
    architecture = Architecture({"notes": notes}, Spec("early"), 64)
    plans = preparations(architecture, preprocess)
    store.prepare(list(plans.values()))
    model = build_model(architecture, {m: store.preprocessor(p) for m, p in plans.items()}, store.task.outputs)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    rows = store.cohort.rows("train")
    cached = {"notes": feature_source(model.encoders["notes"], plans["notes"], store, ("train",), torch.device("cpu"))}

    def epoch(feeds: Mapping[str, Any]) -> Callable[[], None]:
        def run() -> None:
            for batch in iterate_batches(feeds, store.cohort.targets, rows, 64, shuffle=0):
                fit_step(store, model, optimizer, batch.inputs, batch.target)

        return run

    return seconds(epoch({"notes": store.source(plans["notes"])}), 1) / seconds(epoch(cached))


def workers(config: StudyConfig, folder: Path) -> float:
    """Measure ratio 3: the same eight trials, nothing pruned, nothing tracked."""
    from experiments.searching import run_search

    found = {}
    for count in (1, 2):
        data = config.model_dump(mode="json")
        data["search"] |= {"trials": 8, "sampler": "random", "pruner": "none", "workers": count}
        data["training"] |= {"epochs": 6, "patience": 6}
        data |= {"name": f"workers-{count}", "runs": str(folder), "tracking": {"enabled": False}}
        data["space"] |= {
            "encoders": {"codes": "transformer", "notes": "bag", "graph": "ancestors"},
            "dim": 64,
        }
        study = parse_config(data)
        assert isinstance(study, StudyConfig)
        run_search(study, live=False)  # includes starting the workers
        start = time.perf_counter()
        run_search(study, fresh=True, live=False)
        found[count] = time.perf_counter() - start
    return found[1] / found[2]


def main() -> None:
    """Print the three ratios beside what the design promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load_config(
            "demo",
            [f"runs={folder}", f"data.folder={folder}/data", f"data.synthetic.patients={arguments.patients}"],
        )
        assert isinstance(config, StudyConfig)
        store = open_store(config)
        (folder / "bert").mkdir()
        print(f"plain DataLoader / ours, one epoch: {epochs(store, config.data.preprocess):.1f}x (promised 2x)")
        cached = frozen(store, config.data.preprocess, folder / "bert")
        print(f"recomputed / cached frozen encoder: {cached:.0f}x (promised 50x)")
        print(f"one worker / two workers: {workers(config, folder):.2f}x (promised 1.6x)")


if __name__ == "__main__":
    main()

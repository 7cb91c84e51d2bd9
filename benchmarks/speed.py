"""Ratios that the design promises, measured in one run: python benchmarks/speed.py [STUDY --folder DATA].

1. One epoch of ours (packed tensors, length buckets, encoders on present rows) against the same model fed by a plain
   DataLoader over per-sample dicts: random batches, every modality padded for every patient, encoders on all rows;
   padded to the longest record, as the default collate function wants it, and more cleverly to the longest of a batch.
   Histories are as unequal as those of real patients; how unequal is printed, because the ratio hangs on it.
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

import numpy as np
import polars as pl
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from experiments.config import StudyConfig, load_config, parse_config
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.features import feature_source
from experiments.feeding import build_model, preparations
from experiments.sources.synthetic import write_synthetic
from experiments.workspace import open_store
from fusion import Architecture, FusionModel, Spec
from fusion.criterion import Criterion

ENCODERS = {
    "codes": Spec("transformer"),
    "notes": Spec("transformer"),
    "images": Spec("conv"),
    "graph": Spec("ancestors"),
}


class PerSample(Dataset[dict[str, Any]]):
    """What most code does: one dict of tensors a patient, absent modalities as padding."""

    def __init__(self, store: Store, plans: Mapping[str, Any], rows: torch.Tensor, longest: bool) -> None:
        self.samples = []
        feeds = {name: store.source(plan) for name, plan in plans.items()}
        most = {name: int(feed.lengths(rows).max()) for name, feed in feeds.items()}
        for row in rows:
            one = {name: feed.collate(row.reshape(1)) for name, feed in feeds.items()}
            if longest:
                one = {name: type(each)(*(padded(part, most[name]) for part in each)) for name, each in one.items()}
            self.samples.append({"inputs": one, "target": torch.as_tensor(store.cohort.targets[int(row)])})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def lengthen(folder: Path, seed: int = 0) -> None:
    """Merge synthetic patients, a geometric number each: real histories differ in length, synthetic ones hardly."""
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    ids = labels["subject_id"].to_numpy()
    owners = np.repeat(ids, np.random.default_rng(seed).geometric(0.35, len(ids)))[: len(ids)]
    when = labels.select(owner="subject_id", moved="prediction_time")
    given = pl.DataFrame({"subject_id": ids, "owner": owners}).join(when, on="owner").join(labels, on="subject_id")
    given = given.select("subject_id", "owner", shift=pl.col("moved") - pl.col("prediction_time"))
    for path in sorted((folder / "data").glob("*.parquet")):
        events = pl.read_parquet(path).join(given, on="subject_id")
        mine = (pl.col("subject_id") == pl.col("owner")) | (
            pl.col("time").is_not_null() & (pl.col("code") != "MEDS_BIRTH")
        )
        events = events.filter(mine).with_columns(time=pl.col("time") + pl.col("shift"), subject_id=pl.col("owner"))
        events.drop("owner", "shift").sort("subject_id", "time", maintain_order=True).write_parquet(path)
    for name in ("labels/outcome.parquet", "metadata/subject_splits.parquet"):
        table = pl.read_parquet(folder / name)
        table.filter(pl.col("subject_id").is_in(np.unique(owners))).write_parquet(folder / name)


def padded(part: torch.Tensor, length: int) -> torch.Tensor:
    """Fill the second axis with zeros up to a length."""
    return torch.cat([part, part.new_zeros(1, length - part.shape[1], *part.shape[2:])], dim=1)


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
    Criterion(store.task)(model(inputs), target).backward()
    optimizer.step()


def epochs(store: Store, config: StudyConfig) -> tuple[float, float]:
    """Measure ratio 1, against both ways to pad."""
    encoders = {name: spec for name, spec in ENCODERS.items() if name in config.space.encoders}
    architecture = Architecture(encoders, Spec("cross_attention"), 64)
    plans = preparations(architecture, config.data.preprocess)
    store.prepare(list(plans.values()))
    model = build_model(architecture, {m: store.preprocessor(p) for m, p in plans.items()}, store.task.outputs)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rows = store.cohort.rows("train")
    feeds = {name: store.source(plan) for name, plan in plans.items()}

    def ours() -> None:
        for batch in iterate_batches(feeds, store.cohort.targets, rows, 64, shuffle=0):
            fit_step(store, model, optimizer, batch.inputs, batch.target)

    plain_model = AllRows(model)

    def plain(longest: bool) -> float:
        samples = PerSample(store, plans, torch.as_tensor(rows), longest)

        def epoch() -> None:
            for inputs, target in DataLoader(samples, batch_size=64, shuffle=True, collate_fn=collate):
                fit_step(store, plain_model, optimizer, inputs, target)

        return seconds(epoch)

    for name, feed in feeds.items():
        lengths = feed.lengths(torch.as_tensor(rows)).double()
        print(f"  {name}: {lengths.mean():.0f} items a patient, standard deviation {lengths.std():.0f}")
    once = seconds(ours)
    return plain(True) / once, plain(False) / once


def frozen(store: Store, folder: Path) -> float:
    """Measure ratio 2 with a small BERT of random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    notes = Spec("pretrained", {"model": str(folder), "frozen": True})
    architecture = Architecture({"notes": notes}, Spec("early"), 64)
    plans = preparations(architecture, {"notes": {"max_tokens": 128}})
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


def cohort(study: str, runs: Path, data: Path | None = None, *, long: bool = False) -> tuple[StudyConfig, Store]:
    """Open the data of a study, or write synthetic ones, with unequal histories if they are to be long."""
    folder = data or runs / ("long" if long else "data")
    config = load_config(study, [f"runs={runs}", f"data.folder={folder}"])
    assert isinstance(config, StudyConfig)
    if long and data is None:
        write_synthetic(folder, patients=6000)
        lengthen(folder)
        caps = {"codes": {"max_events": 512}, "notes": {"max_tokens": 512}, "images": {"size": 32}}
        config = config.model_copy(update={"data": config.data.model_copy(update={"preprocess": caps})})
    return config, open_store(config)


def main() -> None:
    """Print the three ratios beside what the design promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="demo", help="a built-in study or a YAML file")
    parser.add_argument("--folder", type=Path, help="its data; default: synthetic patients")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, store = cohort("demo", folder)
        long, long_store = cohort(arguments.study, folder, arguments.folder, long=True)
        fixed, clever = epochs(long_store, long)
        print(f"one epoch, DataLoader padded to the longest record / ours: {fixed:.1f}x (promised 2x)")
        print(f"one epoch, DataLoader padded to the longest of its batch / ours: {clever:.1f}x")
        (folder / "bert").mkdir()
        cached = frozen(store, folder / "bert")
        print(f"recomputed / cached frozen encoder: {cached:.0f}x (promised 50x)")
        print(f"one worker / two workers: {workers(config, folder):.2f}x (promised 1.6x)")


if __name__ == "__main__":
    main()

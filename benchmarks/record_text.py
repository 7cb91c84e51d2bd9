"""Does a record read as text do better than as numbers? python benchmarks/record_text.py [FOLDER LABELS].

A small language model (BERT with 2 layers of 64) and its WordPiece tokenizer are trained by hand, masked words, on the
texts of the training patients: no weights come with any package, and none are downloaded. It reads the whole record
(`record_text`) or a text a block (`pseudo_notes`); blocks are also read from scratch, and the same codes as numbers by
a bag. All are held against the raw-tabular control, boosted trees on counts and values: AUROC on the held-out patients
and paired differences, 95% intervals over patients, seeds averaged. Without a folder the data are synthetic.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.serialise import TextOptions
from experiments.config import Config, parse_config
from experiments.controls import boosted_counts
from experiments.data.store import Store
from experiments.data.texts import texts
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.metrics import METRICS
from experiments.scoring import Score, Tested, mean_score
from experiments.sources.synthetic import write_synthetic
from experiments.train import train
from experiments.workspace import open_store

MARKS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
WINDOW, SHARE, CONTROL = 128, 0.15, "boosted_counts (control)"
SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


def train_language(folder: Path, told: list[str], steps: int) -> str:
    """Train a tokenizer and a language model on texts, keep them as transformers does, and return the folder."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    if (folder / "model.safetensors").exists():
        return str(folder)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    split = [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    trainer = trainers.WordPieceTrainer(vocab_size=4000, special_tokens=list(MARKS.values()), show_progress=False)
    tokenizer.train_from_iterator(told, trainer)
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=WINDOW, **SIZE)
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config)
    ids = torch.cat([torch.tensor(each.ids) for each in tokenizer.encode_batch(told)])
    windows = ids[: len(ids) // WINDOW * WINDOW].reshape(-1, WINDOW)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        batch = windows[torch.randint(len(windows), (32,))]
        hidden = torch.rand(batch.shape) < SHARE
        loss = model(input_ids=batch.masked_fill(hidden, 4), labels=batch.masked_fill(~hidden, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(
        f"language model: masked-word loss {np.mean(losses[:20]):.2f}, after {steps} steps {np.mean(losses[-20:]):.2f}"
    )
    model.bert.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MARKS).save_pretrained(folder)
    return str(folder)


def config_of(runs: Path, folder: Path, labels: str, encoder: dict[str, Any]) -> Config:
    """Return an experiment on coded events alone."""
    data = {"folder": str(folder), "labels": labels}
    training = {"epochs": 20, "patience": 6, "warmup_steps": 20, "batch_size": 64}
    model = {"encoders": {"codes": encoder}, "fusion": "early", "dim": 32}
    return parse_config({"name": "text", "runs": str(runs), "data": data, "training": training, "model": model})


def predictions(config: Config, store: Store, seeds: int) -> list[Any]:
    """Train with each seed and predict the held-out patients. Shape: (held out,) each."""
    found = []
    for seed in range(seeds):
        fit = train(config.model.architecture(), store, config.training, seed)  # type: ignore[union-attr]
        rows = store.cohort.rows("held_out")
        found.append(squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows)))
    return found


def report(name: str, score: Score, control: Score, seconds: float) -> None:
    """Print a line of the table."""
    apart = score.minus(control).interval
    verdict = "better" if apart.low > 0 else "worse" if apart.high < 0 else "no difference shown"
    line = f"{name:<28} {score.value:.3f} ({score.interval.low:.3f} to {score.interval.high:.3f})"
    if name != CONTROL:
        line += f"  {apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), {verdict}"
    print(f"{line}; {seconds:.0f} s of CPU", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("labels", nargs="?", default="outcome")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--recipe", default="mixed")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/record-text"))
    arguments = parser.parse_args()
    runs, labels, folder = arguments.runs, arguments.labels, arguments.folder
    if folder is None:
        folder = runs / f"{arguments.recipe}-{arguments.patients}"
        if not folder.exists():
            write_synthetic(folder, patients=arguments.patients, recipe=arguments.recipe, seed=0)
    store = open_store(config_of(runs, folder, labels, {"name": "bag"}))
    rows = store.cohort.rows("held_out")
    positive = int(store.cohort.targets[rows].sum())
    print(
        f"{folder.name}, {labels}: {len(store.cohort.targets):,} predictions, {len(rows)} held out, {positive} positive"
    )
    learned = store.cohort.rows("train").tolist()
    told = [each["text"] for each in texts(store.dataset, labels, TextOptions(), rows=learned)]
    started = time.process_time()
    model = train_language(runs / f"language-{folder.name}-{labels}-{arguments.steps}", told, arguments.steps)
    print(f"language model: {time.process_time() - started:.0f} s of CPU", flush=True)
    tested = Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows], None, resamples=1000, seed=0)

    def scored(found: list[Any]) -> Score:
        return mean_score([tested.score([METRICS["auroc"]], each)["auroc"] for each in found])

    started = time.process_time()
    metric = METRICS["auroc"]
    seeds = range(arguments.seeds)
    control = scored([squeeze_outputs(store.task, boosted_counts(store, metric, s).predictions) for s in seeds])
    report(CONTROL, control, control, time.process_time() - started)
    contenders = {
        "record_text, trained by hand": {"name": "record_text", "model": model},
        "pseudo_notes, trained by hand": {"name": "pseudo_notes", "model": model},
        "pseudo_notes, from scratch": {"name": "pseudo_notes"},
        "bag, numbers": {"name": "bag"},
    }
    for name, encoder in contenders.items():
        started = time.process_time()
        found = scored(predictions(config_of(runs, folder, labels, encoder), store, arguments.seeds))
        report(name, found, control, time.process_time() - started)


if __name__ == "__main__":
    main()

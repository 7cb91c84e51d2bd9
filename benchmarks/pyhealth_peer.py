"""Trials per machine-hour against PyHealth, a peer and no dependency: python benchmarks/pyhealth_peer.py.

    python benchmarks/pyhealth_peer.py --install python3.12    # once: PyHealth 2.1.0 in an environment of its own
    python benchmarks/pyhealth_peer.py --histories unequal     # transformers over codes and notes
    python benchmarks/pyhealth_peer.py --model bag             # bags of codes and of notes

Both train the same kind of model on the same tokens of the same synthetic patients, with equal width, batches, epochs,
optimizer (AdamW), clipping and random settings, on one thread: PyHealth with its own dataset, loader and trainer,
ehrfusion as a worker of a search does, with its storage and checkpoints. Counted is processor time, because a machine
may have other work; wall time stands beside it. Data are prepared before the clock starts on both sides.

1. Equal epochs: nobody prunes, nobody stops early.
2. With pruning: ehrfusion halves and has patience over the same settings. The best model's held-out AUROC must lie
   within the bootstrap interval of PyHealth's best, or be better.

`--histories unequal` merges synthetic patients, as benchmarks/speed.py does, because real histories differ in length
and padding is what they cost; `--storage disk` uses the kind of dataset that PyHealth's `set_task` gives, in place of
its faster one in memory. The operations of one training step are printed for both, so that one can see who does more:
transformers do about the same where lengths are equal, while our bags also read values, times, maxima and pairs of
words, which PyHealth's do not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from speed import lengthen
from torch.utils.flop_counter import FlopCounterMode

from experiments.comparison import evaluate_predictions
from experiments.config import StudyConfig, parse_config
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import build_model, preparations
from experiments.metrics import score
from experiments.objective import make_objective, trial_training
from experiments.sources.synthetic import write_synthetic
from experiments.studies import finalists, study_space, study_spec
from experiments.train import train
from experiments.workspace import open_store
from fusion import Architecture
from fusion.criterion import Criterion
from search.study import create_or_resume, issue_tickets, open_study, worker_loop

VERSION = "2.1.0"
HEADS = 2


def install(python: str, where: Path) -> None:
    """Make an environment with PyHealth by a Python of 3.12 or newer."""
    subprocess.run([python, "-m", "venv", str(where)], check=True)
    packages = [f"pyhealth=={VERSION}", f"torch=={torch.__version__.split('+')[0]}"]
    for wanted in (["--upgrade", "pip"], packages):  # an old pip takes half an hour to find out what goes together
        subprocess.run([str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted], check=True)


def make_study(given: argparse.Namespace, name: str, *, pruned: bool) -> StudyConfig:
    """Return the study of one side of the comparison; the settings drawn are the same in all."""
    notes: dict[str, Any] = {"dropout": 0.1}
    notes |= {"layers": 1, "heads": HEADS, "stride": 1} if given.model == "transformer" else {"pairs": 2048}
    codes: dict[str, Any] = {"dropout": 0.1}
    codes |= {"layers": 1, "heads": HEADS} if given.model == "transformer" else {"slots": 1}
    study = parse_config(
        {
            "name": name,
            "runs": str(given.runs),
            "data": {
                "folder": str(given.runs / f"peer-{given.histories}-{given.patients}"),
                "preprocess": {"codes": {"max_events": given.longest}, "notes": {"max_tokens": given.longest}},
            },
            "training": {
                "epochs": given.epochs,
                "patience": 5 if pruned else given.epochs,
                "batch_size": 64,
                "warmup_steps": 0,
            },
            "space": {
                "encoders": {"codes": {given.model: codes}, "notes": {given.model: notes}},
                "fusion": {"early": {"layers": 1, "dropout": 0.1}},
                "dim": given.dim,
                "training": {
                    "lr": {"low": 3e-4, "high": 1e-2, "log": True},
                    "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
                },
            },
            "search": {
                "trials": given.trials,
                "sampler": "random",
                "pruner": "halving" if pruned else "none",
            },
            "tracking": {"enabled": False},
        }
    )
    assert isinstance(study, StudyConfig)
    return study


def search(config: StudyConfig) -> tuple[float, float, Any]:
    """Run a study in this process; return processor seconds, wall seconds and the finished study."""
    objective, spec = make_objective(config.model_dump(mode="json")), study_spec(config)
    issue_tickets(create_or_resume(spec, {}, fresh=True), config.search.trials or 0)
    study = open_study(spec)
    wall, cpu = time.perf_counter(), time.process_time()
    worker_loop(study, spec, study_space(config), objective, "peer", lambda: "")
    return time.process_time() - cpu, time.perf_counter() - wall, study


def export(folder: Path, store: Store, architecture: Architecture, config: StudyConfig) -> None:
    """Write the tokens that our encoders read as PyHealth's samples; an absent modality is one token that says so."""
    plans = preparations(architecture, config.data.preprocess)
    with (folder / "patients.jsonl").open("w", encoding="utf-8") as file:
        for row in range(len(store.cohort.subject_ids)):
            one = torch.tensor([row])
            codes, notes = (store.source(plans[name]).collate(one) for name in ("codes", "notes"))
            sample = {
                "patient_id": str(row),
                "codes": [f"c{each}" for each in codes.codes[codes.mask].tolist()] or ["none"],
                "notes": [f"w{each}" for each in notes.ids[notes.mask].tolist()] or ["none"],
                "label": int(store.cohort.targets[row]),
                "split": str(store.cohort.split[row]),
            }
            file.write(json.dumps(sample) + "\n")


def our_flops(store: Store, architecture: Architecture, config: StudyConfig) -> int:
    """Count the operations of one training step of ours."""
    plans = preparations(architecture, config.data.preprocess)
    sources = {name: store.source(plan) for name, plan in plans.items()}
    model = build_model(architecture, {m: s.preprocessor for m, s in sources.items()}, store.task.outputs)
    batches = iterate_batches(sources, store.cohort.targets, store.cohort.rows("train"), 64, shuffle=0)
    batch = next(batches)
    with FlopCounterMode(display=False) as counter:
        Criterion(store.task)(model(batch.inputs), batch.target).backward()
    return int(counter.get_total_flops())


def our_best(study: Any, store: Store, config: StudyConfig) -> NDArray[np.float32]:
    """Train the best trial of a study once more, outside the clock, and predict the held-out split."""
    trial, candidate = finalists(study, 1)[0]
    training = trial_training(config.training, candidate)
    seed = trial.user_attrs["seed"]
    fit = train(candidate.architecture, store, training, seed, preprocess=config.data.preprocess)
    return squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, store.cohort.rows("held_out")))


def peer(given: argparse.Namespace, study: Any, store: Store, config: StudyConfig) -> list[dict[str, Any]]:
    """Train PyHealth with the settings that the study drew."""
    folder = given.runs / "peer"
    folder.mkdir(exist_ok=True)
    drawn = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    trials = [{**each["training"], "dropout": 0.1, "seed": each["seed"] % 2**31} for each in drawn]
    settings = {"model": given.model, "dim": given.dim, "heads": HEADS, "epochs": given.epochs, "batch_size": 64}
    settings["storage"] = given.storage
    (folder / "settings.json").write_text(json.dumps({**settings, "trials": trials}), encoding="utf-8")
    export(folder, store, Architecture.from_dict(drawn[0]["architecture"]), config)
    script = Path(__file__).with_name("pyhealth_train.py")
    subprocess.run([str(given.environment / "bin" / "python"), "-W", "ignore", str(script), str(folder)], check=True)
    found: list[dict[str, Any]] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


def report(given: argparse.Namespace) -> None:
    """Measure both sides and print the ratios."""
    full, pruned = make_study(given, "peer-full", pruned=False), make_study(given, "peer-pruned", pruned=True)
    if not full.data.folder.exists():
        write_synthetic(full.data.folder, patients=given.patients)
        if given.histories == "unequal":
            lengthen(full.data.folder)
    store = open_store(full)
    cpu, wall, study = search(full)
    print(
        f"ehrfusion, equal epochs: {cpu:.1f} s of processor, {wall:.1f} s of wall for {given.trials} trials", flush=True
    )
    theirs = peer(given, study, store, full)
    cpu_theirs, wall_theirs = (sum(each[name] for each in theirs) for name in ("cpu_seconds", "seconds"))
    print(f"PyHealth {VERSION}: {cpu_theirs:.1f} s of processor, {wall_theirs:.1f} s of wall", flush=True)
    cpu_pruned, wall_pruned, halved = search(pruned)
    print(f"ehrfusion, pruned: {cpu_pruned:.1f} s of processor, {wall_pruned:.1f} s of wall")
    epochs = sum(len(each.intermediate_values) for each in halved.get_trials(deepcopy=False))
    print(f"epochs trained: {epochs} of {given.trials * given.epochs}")
    candidate = finalists(study, 1)[0][1]
    ratio = our_flops(store, candidate.architecture, full) / theirs[0]["flops"]
    print(f"operations of a step, ours / theirs: {ratio:.2f}")
    best = max(theirs, key=lambda each: each["score"])
    rows = store.cohort.rows("held_out")
    target, subjects = store.cohort.targets[rows], store.cohort.subject_ids[rows]
    if not np.array_equal(np.asarray(best["truth"]), target):
        raise RuntimeError("PyHealth's held-out patients came in another order than ours")
    interval = evaluate_predictions(store.task, target, subjects, np.asarray(best["held_out"], np.float32))["auroc"]
    print(f"held-out AUROC of PyHealth's best: {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})")
    for name, one in (("equal epochs", (study, full)), ("pruned", (halved, pruned))):
        value = score(store.task, target, our_best(one[0], store, one[1]))["auroc"]
        verdict = "within or above" if value >= interval.low else "BELOW"
        print(f"held-out AUROC of ours, {name}: {value:.3f}, {verdict} the interval")
    print(f"trials a machine-hour at equal epochs: {cpu_theirs / cpu:.1f}x (wanted 4x; wall {wall_theirs / wall:.1f}x)")
    print(f"with pruning: {cpu_theirs / cpu_pruned:.1f}x (wanted 20x; wall {wall_theirs / wall_pruned:.1f}x)")


def main() -> None:
    """Install or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", metavar="PYTHON", help="make the environment with this Python (3.12 or newer)")
    parser.add_argument("--environment", type=Path, default=Path("runs/pyhealth-venv"))
    parser.add_argument("--model", choices=("transformer", "bag"), default="transformer")
    parser.add_argument("--histories", choices=("equal", "unequal"), default="equal")
    parser.add_argument("--storage", choices=("memory", "disk"), default="memory")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    for name, value in (("patients", 2000), ("trials", 12), ("epochs", 27), ("dim", 64), ("longest", 512)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    if given.install:
        install(given.install, given.environment)
    elif not (given.environment / "bin" / "python").exists():
        sys.exit(f"PyHealth is not in {given.environment}; run with --install python3.12 first")
    else:
        torch.set_num_threads(1)
        report(given)


if __name__ == "__main__":
    main()

"""What compiling, CUDA graphs, stacking and sharing give on a GPU: python benchmarks/gpu_step.py (under three minutes).

A step is that of the training loop, without gathering the batch; wall time. It is measured on batches of later epochs,
whose shapes may be new, and on batches that were there before, which is the best that CUDA graphs can do; "compiling"
is what the first epochs took more. Each part is a process of its own with a limit in seconds, so that one that fails or
hangs costs only itself. Ratios above 1 are faster than plain, separate or one worker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from stacked import make_members

from experiments.compiling import compile_parts
from experiments.config import TrainingConfig, parse_config
from experiments.data.batches import Batch
from experiments.data.store import Store
from experiments.device import move, seed_everything
from experiments.feeding import build_model, preparations, sources
from experiments.loop import Run
from experiments.stacked import _Stack, train_stacked
from experiments.train import train
from experiments.workspace import open_store
from fusion import Architecture, Spec

HOW = ("none", "default", "reduce-overhead")
NAMES = {"none": "plain", "default": "compile", "reduce-overhead": "CUDA graphs"}
BAGS = Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec("early"), 32)
ATTENTION = Architecture(
    {"codes": Spec("transformer", {"layers": 2}), "notes": Spec("transformer", {"layers": 2})},
    Spec("cross_attention"),
    128,
)
LIMITS = {"bags": 40, "stacked": 45, "workers": 40, "attention": 60}  # seconds; those that compile most come last
WORKERS = (1, 2, 4)
BATCHES, EPOCHS, WARM = 12, 6, 3  # batches of an epoch; epochs with batches of their own, the first of them to warm up
GPU = torch.device("cuda")


class Took(NamedTuple):
    """Milliseconds of a step on batches that are new and on those seen before, and seconds of compiling."""

    new: float
    seen: float
    compiling: float


def make_store(runs: Path, patients: int) -> Store:
    """Open synthetic patients, which are written the first time."""
    preprocess = {"codes": {"max_events": 96}, "notes": {"max_tokens": 96}}
    data = {
        "folder": str(runs / f"gpu-{patients}"),
        "synthetic": {"patients": patients},
        "preprocess": preprocess,
    }
    return open_store(
        parse_config({"name": "gpu", "runs": str(runs), "data": data, "model": {"encoders": {"codes": "bag"}}})
    )


def make_run(store: Store, architecture: Architecture, training: TrainingConfig, seed: int = 0) -> Run:
    """Build what trains an architecture, not compiled yet."""
    seed_everything(seed, training.deterministic)
    plans = preparations(architecture, store.config.preprocess)
    store.prepare(list(plans.values()))
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    model = build_model(architecture, fitted, store.task.outputs).to(GPU)
    return Run(model, store, training, seed, sources(model, plans, store, ("train", "tuning"), GPU), GPU)


def on_gpu(run: Run) -> list[list[Batch]]:
    """Return some batches of each of several epochs of a run, which lie on the GPU."""
    epochs = []
    for run.state.epoch in range(EPOCHS):
        found = islice(run.batches(run.learned), BATCHES)
        epochs.append([Batch(move(each.inputs, GPU), each.target.to(GPU), each.rows, each.patients) for each in found])
    return epochs


def seconds(step: Callable[[Batch], Any], batches: list[Batch]) -> float:
    """Return the wall time of a pass over batches."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for batch in batches:
        step(batch)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def step_time(step: Callable[[Batch], Any], epochs: list[list[Batch]]) -> Took:
    """Measure a step on batches of several epochs, of which the first compile."""
    first = sum(seconds(step, batches) for batches in epochs[:WARM])
    new = statistics.median(seconds(step, batches) for batches in epochs[WARM:])
    seconds(step, epochs[-1])  # records what was not recorded yet
    seen = statistics.median(seconds(step, epochs[-1]) for _ in range(EPOCHS))
    count = len(epochs[-1])
    return Took(1000 * new / count, 1000 * seen / count, max(0.0, first - WARM * seen))


def show(label: str, how: str, found: Took, plain: Took | None) -> Took:
    """Print one line and return what a plain step took."""
    plain = found if plain is None else plain
    new = f"{found.new:.2f} ms a step on new batches ({plain.new / found.new:.2f}x)"
    seen = f"{found.seen:.2f} ms on batches seen before ({plain.seen / found.seen:.2f}x)"
    more = f", compiling {found.compiling:.0f} s" if how != "none" else ""
    print(f"{label}, {NAMES[how]}: {new}, {seen}{more}", flush=True)
    return plain


def tried(label: str, call: Callable[[], Any]) -> Any:
    """Call something and say in one line why it failed."""
    try:
        return call()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(f"{label}: failed, {type(error).__name__}: {lines[0][:160]}", flush=True)
        return None


def ordinary(store: Store, label: str, architecture: Architecture) -> None:
    """Compare an ordinary step plain, compiled and with CUDA graphs."""
    plain = None
    for how in HOW:

        def measure(how: str = how) -> Took:
            run = make_run(store, architecture, TrainingConfig(compile=how))  # type: ignore[arg-type]
            compile_parts([*run.model.encoders.values(), run.model.fusion], how, GPU)
            return step_time(run.step, on_gpu(run))

        found = tried(f"{label}, {NAMES[how]}", measure)
        plain = show(label, how, found, plain) if found is not None else plain


def stacked(store: Store) -> None:
    """Compare training together with one after the other, then the stacked step compiled."""
    for count in (4, 16):
        members = make_members("bag", "early", 32, count, 2)

        def alone(members: Any = members) -> None:
            for each in members:
                train(each.architecture, store, each.training, each.seed, preprocess=store.config.preprocess)

        def together(members: Any = members) -> None:
            train_stacked(members, store, preprocess=store.config.preprocess)

        took = {}
        for name, call in (("alone", alone), ("together", together)):
            call()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            took[name] = time.perf_counter() - start
        print(f"{count} runs stacked against one after the other: {took['alone'] / took['together']:.2f}x", flush=True)
    members = make_members("bag", "early", 32, 8, 2)
    plain = None
    for how in HOW:

        def measure(how: str = how) -> Took:
            training = {"compile": how}
            runs = [
                make_run(store, each.architecture, each.training.model_copy(update=training), each.seed)
                for each in members
            ]
            stack = _Stack(runs, GPU)

            def step(batch: Batch) -> None:
                stack.gradients(batch)
                for run in runs:
                    run.optimizer.step()

            return step_time(step, on_gpu(runs[0]))

        found = tried(f"8 runs stacked, {NAMES[how]}", measure)
        plain = show("8 runs stacked", how, found, plain) if found is not None else plain


def worker(rank: int, runs: Path, patients: int, ready: Any, times: Any) -> None:
    """Train the same run as the other workers at the same time, in each round in which so many take part."""
    store = make_store(runs, patients)

    def one(epochs: int) -> None:
        train(BAGS, store, TrainingConfig(epochs=epochs, patience=epochs), rank, preprocess=store.config.preprocess)
        torch.cuda.synchronize()

    one(1)  # starts CUDA
    for count in WORKERS:
        ready.wait(60)
        start = time.perf_counter()
        if rank < count:
            one(10)
            times.put((count, time.perf_counter() - start))


def workers(runs: Path, patients: int) -> None:
    """Compare several workers on one GPU with one, by runs an hour."""
    context, took = multiprocessing.get_context("spawn"), dict[int, float]()
    ready, times = context.Barrier(max(WORKERS)), context.Queue()
    for rank in range(max(WORKERS)):
        context.Process(target=worker, args=(rank, runs, patients, ready, times), daemon=True).start()
    for count in WORKERS:
        for _ in range(count):
            of, spent = times.get(timeout=60)
            took[of] = max(spent, took.get(of, 0.0))
        print(f"{count} workers on one GPU against one: {count * took[1] / took[count]:.2f}x", flush=True)


def main() -> None:
    """Print the ratios, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=170.0, help="at most, all parts together")
    parser.add_argument("--only", choices=list(LIMITS), help="one part, in this process")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here; nothing is measured")
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as workers have it
    started = time.monotonic()
    store = make_store(given.runs, given.patients)
    if given.only is None:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
        store.prepare(list(preparations(BAGS, store.config.preprocess).values()))
        for part, limit in LIMITS.items():
            left = min(limit, given.seconds - (time.monotonic() - started))
            run_part(part, left, [f"--runs={given.runs}", f"--patients={given.patients}"])
    elif given.only == "workers":
        tried("workers", lambda: workers(given.runs, given.patients))
    elif given.only == "stacked":
        tried("stacked", lambda: stacked(store))
    else:
        ordinary(store, given.only, BAGS if given.only == "bags" else ATTENTION)


def run_part(part: str, limit: float, arguments: list[str]) -> None:
    """Measure one part in a process of its own, for so many seconds at most."""
    if limit < 5:
        print(f"{part}: not measured, the time is over", flush=True)
        return
    command = [sys.executable, __file__, f"--only={part}", *arguments]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.wait()
        print(f"{part}: stopped after {limit:.0f} s", flush=True)
        return
    if code != 0:
        print(f"{part}: ended with {code}", flush=True)


if __name__ == "__main__":
    main()

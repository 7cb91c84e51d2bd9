"""A study whose trials cost nothing, for tests of workers and drivers, and what must hold of it; also run as a driver.

Every attempt writes what it does into one journal file, so that tests can tell what ran, where, how often and from
which epoch; checkpoints are files that hold a number of epochs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.engine import LocalEngine
from experiments.supervise import Ending, supervise
from experiments.worker import WorkerSpec
from fusion.component import Choice, Float
from search.joining import take_part
from search.locking import one_on_all_hosts
from search.space import Candidate, Space
from search.storage import sqlite_url
from search.study import StudySpec, create_or_resume, issue_tickets, open_study
from search.trial import Interrupted, Objective, TrialHandle

_LOST: list[int] = []  # the trials that lost the GPU context of this process, which every later one notices
SPACE = Space({"codes": {"bag": {}}}, {"late": {}}, Choice(16, 32), {"lr": Float(1e-4, 1e-2, True)})


def study_spec(folder: Path, trials: int | None) -> StudySpec:
    """Return the specification of the toy study in a folder."""
    elsewhere = folder / "storage"  # holds the address of a server
    url = elsewhere.read_text(encoding="utf-8") if elsewhere.exists() else sqlite_url(folder / "study.db")
    return StudySpec("toy", url, "maximize", seed=5, sampler="random", pruner="none", trials=trials)


def journal(folder: Path) -> list[dict[str, Any]]:
    """Return what the attempts wrote, in order."""
    path = folder / "journal"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def toy_space(settings: Mapping[str, Any]) -> Space:
    """Return the space of the toy study."""
    return SPACE


def make_objective(settings: Mapping[str, Any]) -> Objective:
    """Return an objective that does as the settings say.

    epochs: how many (1); epoch_seconds: how long each takes (0); poison: roots that kill their worker; broken: roots
    that raise; asserts: roots whose first attempts (so many of each) lose the process's GPU context; hang: roots that
    never ask whether to stop; hold: stay in the last epoch while this file exists; stubborn: do not listen meanwhile;
    farewell_seconds: how long it takes to end when asked to (0).
    """
    folder = Path(settings["folder"])

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        checkpoint = folder / f"checkpoint-{trial.root}"
        start = int(checkpoint.read_text(encoding="utf-8")) if checkpoint.exists() else 0
        about = {"root": trial.root, "attempt": trial.attempt, "seed": trial.seed, "pid": os.getpid()}
        _write(folder, {**about, "event": "start", "epoch": start, "candidate": candidate.to_dict()})
        if trial.root in settings.get("poison", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if trial.root in settings.get("broken", ()):
            raise ValueError("no such luck\nwith details")
        if trial.attempt < settings.get("asserts", {}).get(str(trial.root), 0):
            _LOST.append(trial.root)
        if _LOST:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")
        while trial.root in settings.get("hang", ()):
            time.sleep(0.01)
        for epoch in range(start, int(settings.get("epochs", 1))):
            _wait(settings, trial, last=epoch + 1 == settings.get("epochs", 1))
            partial = checkpoint.with_suffix(f".{os.getpid()}")
            partial.write_text(str(epoch + 1), encoding="utf-8")
            partial.replace(checkpoint)
            trial.report(epoch + 1, trial.root + epoch / 10, {})
        _write(folder, {**about, "event": "end"})
        return float(trial.root)

    return objective


def _wait(settings: Mapping[str, Any], trial: TrialHandle, last: bool) -> None:
    until = time.monotonic() + float(settings.get("epoch_seconds", 0.0))
    hold = Path(settings["hold"]) if last and "hold" in settings else None
    while time.monotonic() < until or (hold is not None and hold.exists()):
        if trial.should_stop() and not settings.get("stubborn"):
            time.sleep(float(settings.get("farewell_seconds", 0.0)))
            raise Interrupted("asked to stop")
        time.sleep(0.01)


def _write(folder: Path, line: Mapping[str, Any]) -> None:
    with (folder / "journal").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")  # one short write in append mode is whole


def toy_engine(folder: Path, trials: int | None, settings: Mapping[str, Any]) -> LocalEngine:
    """Return an engine whose workers take part in the toy study of a folder."""
    spec = WorkerSpec(
        study=study_spec(folder, trials).to_dict(),
        objective="toy_study:make_objective",
        space="toy_study:toy_space",
        settings={"folder": str(folder), **settings},
        slot=0,
        log=str(folder / "workers" / "worker-0.log"),
        driver=os.getpid(),
    )
    return LocalEngine(spec, preload=("search.study",))


def open_toy(folder: Path, trials: int | None) -> optuna.Study:
    """Create the toy study, or open it, with its tickets."""
    spec = study_spec(folder, trials)
    attributes = {"space": json.dumps(SPACE.to_dict()), "space_fingerprint": SPACE.fingerprint, "metric": "auroc"}
    study = create_or_resume(spec, attributes)
    if trials is not None:
        issue_tickets(study, trials)
    return study


def drive(folder: Path, trials: int, settings: Mapping[str, Any], workers: int = 2, **options: Any) -> Ending:
    """Run the toy study to the end of its budget in trials."""
    return drive_with(toy_engine(folder, trials, settings), folder, trials, workers, **options)


def join(folder: Path, trials: int, settings: Mapping[str, Any], host: str) -> None:
    """Be a worker without a driver, as if on another host, so that only its heartbeats tell that it lives."""
    spec = study_spec(folder, trials)
    with one_on_all_hosts(spec.storage, "begin"):
        open_toy(folder, trials)
    study = open_study(spec, slot=os.getpid())
    objective = make_objective({"folder": str(folder), **settings})
    take_part(study, spec, SPACE, objective, f"{host}:boot:1-1:x", lambda: "", poll_seconds=0.1)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def read(folder: Path) -> list[FrozenTrial]:
    """Return the trials of the toy study."""
    return open_study(study_spec(folder, 1)).get_trials()


def attempts(folder: Path) -> dict[int, list[FrozenTrial]]:
    """Return the trials of each root in order."""
    found: dict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in read(folder):
        found[trial.user_attrs.get("root", trial.number)].append(trial)
    return dict(found)


def check_complete(folder: Path, trials: int) -> None:
    """Every root of the budget ended in one complete trial, and nothing is left over."""
    roots = attempts(folder)
    assert len(roots) == trials
    for root, each in roots.items():
        assert [trial.state for trial in each] == [TrialState.FAIL] * (len(each) - 1) + [TrialState.COMPLETE]
        assert [trial.user_attrs.get("attempt", 0) for trial in each] == list(range(len(each)))
        assert each[-1].value == root
        signed = [trial for trial in each if "seed" in trial.user_attrs]  # a worker may die before it notes anything
        assert len({json.dumps(trial.params, sort_keys=True) for trial in signed}) == 1
        assert len({trial.user_attrs["seed"] for trial in signed}) == 1
    seeds = {each[-1].user_attrs["seed"] for each in roots.values()}
    assert len(seeds) == trials


def ray_engine(folder: Path, trials: int, settings: dict[str, Any], **options: Any) -> Any:
    """Return Ray's engine of a toy study, whether Ray is real or a stand-in."""
    from experiments.ray_engine import RayEngine

    return RayEngine(toy_engine(folder, trials, settings).spec, preload=("search.study",), **options)


def drive_with(engine: Any, folder: Path, trials: int, workers: int = 2, **options: Any) -> Ending:
    """Run the toy study on an engine."""
    options = {"on_tick": lambda _: None, "poll_seconds": 0.05, **options}
    return supervise(open_toy(folder, trials), engine, workers, **options)


def started(folder: Path) -> list[int]:
    """Return the processes that began trials, in order."""
    return [line["pid"] for line in journal(folder) if line["event"] == "start"]


def signal_the_first(folder: Path, hold: Path, starts: int, number: int) -> Callable[[Any], None]:
    """Return a tick that sends a signal to the first worker that began, and lets trials end after so many starts."""
    sent: list[int] = []

    def tick(_: Any) -> None:
        if started(folder) and not sent:
            sent.append(started(folder)[0])
            os.kill(sent[0], number)
        if len(started(folder)) >= starts:
            hold.unlink(missing_ok=True)

    return tick


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    print(drive(Path(told["folder"]), told["trials"], told["settings"]), flush=True)

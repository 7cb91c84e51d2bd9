"""Pre-training and scaling that are killed at the worst moment: nothing is lost, and the same comes out."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from toy_pretraining import config_of, done, numbers, scaling_of  # noqa: F401

from experiments import checkpoint
from experiments.config import parse_config
from experiments.feeding import preparations
from experiments.loop import Run
from experiments.pretraining import artefact
from experiments.pretraining.run import Pretrained, architecture_of, pretrain
from experiments.scaling import cell as scaling_cell
from experiments.scaling.cell import Bench, Cell, cost, train_cell
from experiments.workspace import open_store


def killed(work: Callable[[], Any]) -> None:
    """Do some work in a copy of this process, which must die by SIGKILL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the copy uses no thread of this process
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(3)
    for _ in range(1200):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert os.WIFSIGNALED(status), "it was not killed where it should have been"
            assert os.WTERMSIG(status) == signal.SIGKILL
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the copy did not end")


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def after(count: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does what another does so many times, and then kills the process."""
    calls: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs) if len(calls) <= count else die()

    return counted


def epochs_kept(folder: Path) -> int:
    """How many whole epochs the checkpoint of a folder holds."""
    whole = [each for each in folder.glob("*") if not each.name.startswith(".")]  # others are of dead processes
    names = {each.name.removesuffix(".previous") for each in whole}
    found = [checkpoint.read_checkpoint(folder / each) for each in names]
    return max((int(each.state["run"]["epoch"]) for each in found if each is not None), default=0)


KILLS: dict[str, tuple[Any, str, int, int]] = {  # what is replaced, after how many calls it kills, and epochs kept
    "in the first epoch": (Run, "step", 2, 0),
    "in the middle of the second epoch": (Run, "step", 5, 1),
    "while the second checkpoint is written": (checkpoint.os, "fsync", 1, 1),
    "while the second checkpoint takes its place": (Path, "replace", 2, 1),
    "while artefacts are written": (artefact, "save_file", 1, 2),
}


@pytest.mark.parametrize("moment", KILLS)
def test_kill_nine_loses_nothing_but_the_epoch(
    moment: str, small_folder: Path, tmp_path: Path, done: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, count, kept = KILLS[moment]
    config = config_of(small_folder, tmp_path)
    store = open_store(config)
    assert config.pretrain is not None
    store.prepare(list(preparations(architecture_of(config.pretrain), config.data.preprocess).values()))
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, after(count, getattr(owner, name)))
        killed(lambda: pretrain(config, store))
    assert not (tmp_path / "t" / "pretrained").exists(), "half an artefact was left"
    assert epochs_kept(tmp_path / "t" / "pretraining") == kept
    again = pretrain(config, store)
    assert numbers(again.history) == numbers(done.history)
    for modality in ("codes", "notes"):
        one, other = (load_file(each.folder / modality / "weights.safetensors") for each in (again, done))
        assert all(one[name].equal(other[name]) for name in other)
    assert not list((tmp_path / "t").rglob("*.partial*")), "what a dead process left is cleared away"
    assert not list((tmp_path / "t" / "pretraining").glob("*.safetensors*"))


def test_a_damaged_checkpoint_is_not_taken_for_a_whole_one(
    small_folder: Path, tmp_path: Path, done: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(small_folder, tmp_path)
    store = open_store(config)
    with monkeypatch.context() as patched:
        patched.setattr(artefact, "save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(OSError, match="disk full"):
            pretrain(config, store)
    (left,) = (tmp_path / "t" / "pretraining").glob("*.safetensors")
    left.write_bytes(left.read_bytes()[:-9])
    seen: list[int] = []
    found = pretrain(config, store, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [1, 2], "the first is told from the checkpoint before, the second is done again"
    assert numbers(found.history) == numbers(done.history)


def test_an_interrupted_cell_of_a_scaling_study_goes_on(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(runs: Path) -> Bench:
        settings = {**config_of(small_folder, runs).model_dump(mode="json"), **scaling_of(small_folder, runs, epochs=3)}
        config = parse_config(settings)
        assert config.scaling is not None
        plans = preparations(config.scaling.architecture(0), config.data.preprocess)
        return Bench(config, config.scaling, open_store(config), plans)

    cell, whole_bench = Cell(0, 1.0, None, 0), bench(tmp_path / "whole")
    price = cost(whole_bench, 0)
    wanted, history = train_cell(whole_bench, cell, price)
    mine, saved = bench(tmp_path / "mine"), []
    original = Run.save

    def interrupted(run: Run, path: Any) -> None:
        original(run, path)
        saved.append(run.state.epoch)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_cell(mine, cell, price)
    assert scaling_cell.read_cell(mine, cell) is None
    found, again = train_cell(mine, cell, price)
    assert saved == [1, 2, 3], "epochs that were done are done again"
    assert numbers(again) == numbers(history)
    assert found.loss == wanted.loss

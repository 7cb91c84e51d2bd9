"""Where workers run: GPUs in turns, several on one, cores where there is none."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_study import toy_engine

from experiments import slots
from experiments.engine import LocalEngine
from experiments.slots import default_workers, slot_environment, visible_cores, visible_gpus


def test_the_gpus_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for named, found in (("0,1", ["0", "1"]), ("GPU-a", ["GPU-a"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert visible_gpus() == found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(slots.shutil, "which", lambda _: None)
    assert visible_gpus() == []
    monkeypatch.setattr(slots.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(slots.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="GPU-a\nGPU-b\n"))
    assert visible_gpus() == ["GPU-a", "GPU-b"]

    def broken(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    monkeypatch.setattr(slots.subprocess, "run", broken)
    assert visible_gpus() == []


def test_the_default_is_one_worker_a_gpu_or_else_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,5")
    assert default_workers() == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert default_workers() == visible_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("gpus", "each"), [(1, {"0": 8}), (2, {"0": 4, "1": 4}), (3, {"0": 3, "1": 3, "2": 2})])
def test_eight_workers_share_the_gpus_evenly(gpus: int, each: dict[str, int]) -> None:
    names = [str(gpu) for gpu in range(gpus)]
    assert Counter(slot_environment(slot, names)["CUDA_VISIBLE_DEVICES"] for slot in range(8)) == each
    assert slot_environment(3, []) == {}


def test_a_worker_that_is_started_again_gets_the_gpu_of_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.engine.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    engine: LocalEngine = toy_engine(tmp_path, 1, {})
    told: list[str] = []

    def process(*, target: Any, args: tuple[str, str, Any], daemon: bool) -> Any:
        told.append(args[0])
        return SimpleNamespace(start=lambda: None, pid=os.getpid())

    monkeypatch.setattr(engine._context, "Process", process)
    for slot in (0, 1, 2, 1):
        engine.start(slot)
    assert ["GPU-a" in text for text in told] == [True, False, True, False]
    assert ["GPU-b" in text for text in told] == [False, True, False, True]

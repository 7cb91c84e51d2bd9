"""One trial in two processes: the same numbers as in one, whoever lacks what; and what happens if one of them dies."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
from toy_training import folder, numbers, run, store  # noqa: F401

from experiments.cli import main
from experiments.config import TrainingConfig
from experiments.data.store import Store
from experiments.together import check_devices, check_library
from experiments.train import Fit
from fusion import Architecture, Spec, UsageError

if importlib.util.find_spec("lightning_fabric") is None:
    pytest.skip("Lightning Fabric is not installed (pip install 'ehrfusion[devices]')", allow_module_level=True)

DRY = {"dropout": 0.0}  # two processes throw dice of their own
PLAIN = Architecture({"codes": Spec("bag", DRY), "notes": Spec("bag", DRY)}, Spec("cross_attention", DRY), 8)


def alike(one: Fit, two: Fit) -> None:
    """Two runs learned the same, but for the order in which numbers were added.

    The bias of an attention's keys changes nothing, so that its gradient is nothing but that error, which Adam makes as
    large as any: it is left out, and of the others the mean is looked at.
    """
    for mine, theirs in zip(numbers(one), numbers(two), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    other = two.model.state_dict()
    for name, each in one.model.state_dict().items():
        if not name.endswith("key_value.bias"):
            assert float((each - other[name]).abs().float().mean()) < 1e-4, name


@pytest.mark.parametrize("options", [{"batch_size": 23, "average": "swa"}, {"batch_size": 3, "average": "ema"}])
def test_two_processes_learn_what_one_does(store: Store, options: dict[str, Any]) -> None:
    """Batches of 3 hold patients of whom all in one process lack notes; the last batch of 23 has only one patient."""
    count = len(store.cohort.rows("train"))
    assert count % 23 == 1
    one = run(store, PLAIN, epochs=1, lr=3e-3, **options)
    two = run(store, PLAIN, epochs=1, lr=3e-3, devices=2, **options)
    alike(one, two)
    assert not torch.distributed.is_initialized()
    assert not [each for each in psutil.Process().children(recursive=True) if sockets(each)]


def test_a_run_goes_on_with_another_number_of_processes(store: Store, tmp_path: Path) -> None:
    straight = run(store, PLAIN, epochs=3)
    for first, then in ((2, 1), (1, 2)):
        path = tmp_path / f"{first}.safetensors"
        run(store, PLAIN, epochs=2, devices=first, checkpoint=path)
        epochs: list[int] = []
        resumed = run(
            store,
            PLAIN,
            epochs=3,
            devices=then,
            checkpoint=path,
            on_epoch=lambda epoch, _, seen=epochs: seen.append(epoch),
        )
        assert epochs == [1, 2, 3]
        alike(straight, resumed)


def test_a_run_ends_if_one_of_its_processes_does(store: Store) -> None:
    def kill(epoch: int, _: dict[str, float]) -> None:
        (other,) = [each for each in psutil.Process().children(recursive=True) if sockets(each)]
        other.kill()

    with pytest.raises(RuntimeError, match="another process of the trial is gone"):
        run(store, PLAIN, devices=2, on_epoch=kill)
    assert not torch.distributed.is_initialized()
    assert run(store, PLAIN, epochs=1, devices=2).best_epoch == 1


def sockets(process: psutil.Process) -> bool:
    """Tell whether a process talks to others over a socket, as only the second one of a trial does here."""
    return bool(process.net_connections("tcp"))


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(TrainingConfig(devices=2), torch.device("cuda"))
    with pytest.raises(UsageError, match=r"training.devices is 3, and this process has 2 GPUs"):
        check_devices(TrainingConfig(devices=3), torch.device("cuda"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    check_library(TrainingConfig())
    with pytest.raises(UsageError, match=r"needs Lightning Fabric: pip install 'ehrfusion\[devices\]'"):
        check_library(TrainingConfig(devices=2))


@pytest.mark.parametrize("verb", ["train", "search"])
def test_two_processes_from_the_command_line(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    encoders: dict[str, Any] = {"codes": "bag"}
    config = {
        "name": "two",
        "data": {"folder": str(small_folder), "preprocess": {"codes": {"max_events": 32}}},
        "training": {"epochs": 1, "batch_size": 64, "devices": 2},
        "tracking": {"enabled": False},
    }
    if verb == "train":
        config["model"] = {"encoders": encoders, "fusion": "late", "dim": 8}
    else:
        config["space"] = {"encoders": encoders, "fusion": ["late"], "dim": [8]}
        config["search"] = {"trials": 1, "workers": 1}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main([verb, str(tmp_path / "two.yaml"), "--runs", str(tmp_path / "runs")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "tuning auroc" in said
    assert os.environ.get("LOCAL_RANK") is None
    if verb == "search":
        assert "all trials done (1 complete)" in said


def test_parts_are_put_together() -> None:
    from experiments.ranks import Ranks

    ranks = object.__new__(Ranks)
    ranks.world = 3
    rows = np.arange(7)
    parts = []
    for ranks.rank in range(3):
        assert ranks.own(7) == len(ranks.part(rows))
        parts.append(ranks.part(rows).astype(np.float32)[:, None])
    ranks.gather = lambda _: parts  # type: ignore[method-assign]
    np.testing.assert_array_equal(ranks.whole(parts[0], 7)[:, 0], rows)

"""Checkpoints: whole or absent, never half, and the previous one when the newest is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from experiments.checkpoint import (
    Checkpoint,
    load_optimizer,
    optimizer_tensors,
    previous,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)


def make(value: float) -> Checkpoint:
    return Checkpoint({"model.w": torch.full((3,), value), "best.n": torch.tensor(4)}, {"epoch": int(value)})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "1.safetensors"
    write_checkpoint(path, make(2.0))
    found = read_checkpoint(path)
    assert found is not None
    assert found.state == {"epoch": 2}
    assert torch.equal(found.part("model")["w"], torch.full((3,), 2.0))
    assert int(found.part("best")["n"]) == 4
    assert os.listdir(path.parent) == [path.name]


def test_absent_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "none.safetensors") is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "pickle"])
def test_damaged_falls_back_to_the_previous(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "1.safetensors"
    write_checkpoint(path, make(1.0))
    write_checkpoint(path, make(2.0))
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(bytes(content[:-5]))
    elif damage == "flip":
        content[-1] ^= 0xFF
        path.write_bytes(bytes(content))
    else:
        torch.save({"epoch": 9}, path)
    found = read_checkpoint(path)
    assert found is not None
    assert found.state == {"epoch": 1}
    previous(path).unlink()
    assert read_checkpoint(path) is None


def test_full_disk_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.safetensors"
    write_checkpoint(path, make(1.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, make(2.0))
    found = read_checkpoint(path)
    assert found is not None
    assert found.state == {"epoch": 1}
    assert os.listdir(tmp_path) == [path.name]


def test_remove(tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    write_checkpoint(path, make(1.0))
    write_checkpoint(path, make(2.0))
    remove_checkpoint(path)
    assert os.listdir(tmp_path) == []


def test_optimizer_continues_exactly() -> None:
    def fresh() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()

    layer, optimizer = fresh()
    step(layer, optimizer)
    kept, weights = optimizer_tensors(optimizer), {k: v.clone() for k, v in layer.state_dict().items()}
    kept = {name: value.clone() for name, value in kept.items()}
    step(layer, optimizer)
    other, resumed = fresh()
    other.load_state_dict(weights)
    load_optimizer(resumed, kept)
    step(other, resumed)
    assert torch.equal(layer.weight, other.weight)

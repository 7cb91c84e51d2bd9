"""Checkpoints at URLs: whole or absent, the previous one when the newest is damaged, one line when out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from experiments.checkpoint import Checkpoint, previous, read_checkpoint, remove_checkpoint, write_checkpoint
from experiments.remote import check_place, place
from fusion.component import UsageError


@pytest.fixture
def url() -> Iterator[str]:
    yield "memory://bucket/study/1.safetensors"
    MemoryFileSystem.store.clear()


def make(value: float) -> Checkpoint:
    return Checkpoint({"model.w": torch.full((3,), value)}, {"epoch": int(value)})


def epoch(where: Any) -> int | None:
    found = read_checkpoint(where)
    return None if found is None else found.state["epoch"]


def test_a_url_is_as_good_as_a_path(url: str) -> None:
    assert epoch(url) is None
    for value in (1.0, 2.0, 3.0):
        write_checkpoint(url, make(value))
    found = read_checkpoint(url)
    assert found is not None
    assert torch.equal(found.tensors["model.w"], torch.full((3,), 3.0))
    assert (epoch(url), epoch(previous(url))) == (3, 2)
    remove_checkpoint(url)
    remove_checkpoint(url)
    assert fsspec.filesystem("memory").find("bucket") == []


def test_a_truncated_one_gives_way_to_the_previous(url: str) -> None:
    """1 fault, 1 epoch lost, nothing unpickled."""
    write_checkpoint(url, make(1.0))
    write_checkpoint(url, make(2.0))
    system = fsspec.filesystem("memory")
    system.pipe_file("bucket/study/1.safetensors", system.cat_file("bucket/study/1.safetensors")[:-5])
    assert epoch(url) == 1


def test_a_full_store_keeps_the_old_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(url, make(1.0))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(url, make(2.0))
    assert epoch(url) == 1


def test_places() -> None:
    assert place("/shared/runs", "study", "1") == Path("/shared/runs/study/1")
    assert place("file:///shared/runs", "study", "1") == Path("/shared/runs/study/1")
    assert place("s3://bucket/runs/", "study", "1") == "s3://bucket/runs/study/1"


@pytest.mark.parametrize("folder", ["nothing://bucket", "s3://key:secret@bucket/runs"])
def test_what_cannot_be_reached_is_one_line_without_secrets(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_implementations, "s3", {"class": "nowhere.S3", "err": "Install s3fs"})
    with pytest.raises(UsageError, match=r"^the checkpoints at \w+://bucket(/runs)? cannot be reached: ") as caught:
        check_place(folder)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)

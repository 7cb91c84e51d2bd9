"""Files and folders are there whole or not at all; what killed processes left is swept, what others write is not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from experiments.whole import scratch, whole_file, whole_folder

Whole = Callable[[Path], AbstractContextManager[Path]]


def write(path: Path, content: str) -> None:
    """Write into a file, or into a file of a folder."""
    (path / "part" if path.is_dir() else path).write_text(content, encoding="utf-8")


def read(path: Path) -> str:
    return (path / "part" if path.is_dir() else path).read_text(encoding="utf-8")


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_it_appears_at_the_end_and_replaces_what_was_there(tmp_path: Path, whole: Whole) -> None:
    target = tmp_path / "deep" / "target.npz"
    for content in ("first", "second"):
        with whole(target) as temporary:
            write(temporary, content)
            assert temporary.parent == target.parent
            assert temporary.suffix == ".npz"
            assert not target.exists() or read(target) == "first"
        assert read(target) == content
        assert list(target.parent.iterdir()) == [target]


def fail(whole: Whole, target: Path, content: str, error: BaseException) -> None:
    """Fail after writing."""
    with whole(target) as temporary:
        write(temporary, content)
        raise error


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_failure_leaves_what_was_there(tmp_path: Path, whole: Whole) -> None:
    target = tmp_path / "target"
    for content in ("first", "second"):
        with pytest.raises(OSError, match="full"):
            fail(whole, target, content, OSError("disk full"))
        assert not list(tmp_path.iterdir())
    with whole(target) as temporary:
        write(temporary, "good")
    with pytest.raises(KeyboardInterrupt):
        fail(whole, target, "half", KeyboardInterrupt())
    assert read(target) == "good"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("whole", [whole_file, whole_folder, scratch])
def test_two_writers_at_once_do_not_meet(tmp_path: Path, whole: Whole) -> None:
    with whole(tmp_path / "target") as first:
        with whole(tmp_path / "target") as second:
            assert first != second
            write(second, "second")
        write(first, "first")
    if whole is not scratch:
        assert read(tmp_path / "target") == "first"


def test_scratch_vanishes(tmp_path: Path) -> None:
    with scratch(tmp_path / "building") as folder:
        write(folder, "something")
    assert not list(tmp_path.iterdir())


def _die(whole: Any, target: Path) -> None:
    with whole(target) as temporary:
        write(temporary, "half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("whole", [whole_file, whole_folder, scratch])
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path, whole: Whole) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(whole, tmp_path / "target"))
    process.start()
    process.join()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".target.partial-")
    with whole(tmp_path / "other") as temporary:
        assert left.exists(), "another file's leftovers are not ours to judge"
        write(temporary, "other")
    with whole(tmp_path / "target") as temporary:
        write(temporary, "good")
        assert not left.exists()

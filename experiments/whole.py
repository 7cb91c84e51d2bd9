"""Files and folders that appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
from filelock import FileLock

_OWNER, _OWNER_FOLDER = 0o600, 0o700  # may read and write; may enter too


@contextmanager
def whole_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes its place when all went well and vanishes otherwise.

    Only its owner may read what is `private`, at no time anybody else.
    """
    temporary = _beside(path)
    try:
        if private:
            temporary.touch(mode=_OWNER)
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def one_at_a_time(path: Path) -> FileLock:
    """Let one process of this host at a time make something; the lock leaves nothing beside it."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"ehrfusion-{os.getuid()}-{name}.lock")


@contextmanager
def whole_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place when all went well and vanishes otherwise.

    Only its owner may read what is `private`, at no time anybody else.
    """
    with scratch(path) as temporary:
        if not private:
            temporary.chmod(0o777 & ~_umask())
        yield temporary
        if private:
            make_private(temporary)
        put_in_place(temporary, path)


def put_in_place(folder: Path, path: Path) -> None:
    """Let a folder that is whole take the place of what is at `path`."""
    old = _beside(path)
    if path.exists():
        path.replace(old)  # a folder that holds something cannot be replaced, so it steps aside first
    folder.replace(path)
    _remove(old)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that vanishes in the end; only its owner may look into it."""
    temporary = _beside(path)
    temporary.mkdir(mode=_OWNER_FOLDER)
    try:
        yield temporary
    finally:
        _remove(temporary)


def make_private(folder: Path) -> None:
    """Let only the owner read a folder and all that is in it; a file that lies elsewhere too keeps its mode."""
    for each in (folder, *folder.rglob("*")):
        if not each.is_symlink() and (each.is_dir() or each.stat().st_nlink == 1):
            each.chmod(_OWNER_FOLDER if each.is_dir() else _OWNER)


def _umask() -> int:
    """Return what new files may not be; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _beside(path: Path) -> Path:
    """Name something that nobody else writes, and remove what dead processes of this host left of the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name}.partial-{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(start)}*"):
        found = re.match(r"\d+", left.name.removeprefix(start))
        if found and not psutil.pid_exists(int(found.group())):
            _remove(left)
    return path.with_name(f"{start}{os.getpid()}-{uuid4().hex[:8]}{path.suffix}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

"""Places that several hosts share: a folder, or a URL that fsspec opens (s3, gs, abfs, sftp and so on)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fusion.component import UsageError

Place = Path | str
"""A file, or the URL of one."""


def place(folder: str, *parts: str) -> Place:
    """Return a place in a folder or below a URL; a `file://` URL is a path."""
    if "://" not in folder:
        return Path(folder, *parts)
    if urlsplit(folder).scheme in ("file", "local"):
        return Path(urlsplit(folder).path, *parts)
    return "/".join([folder.rstrip("/"), *parts])


def check_place(folder: str) -> None:
    """See whether a place can be opened from here, without writing to it.

    Raises:
        UsageError: nothing installed opens such a URL, or it does not answer.
    """
    where = place(folder, "asked")
    if isinstance(where, Path):
        return
    try:
        system, path = _open(where)
        system.exists(path)
    except (ImportError, ValueError, OSError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"the checkpoints at {_shown(folder)} cannot be reached: {why}") from None


def replace_remote(url: str, previous: str, content: bytes) -> None:
    """Write a file whole, after what was there was copied to `previous`; object stores replace in one step."""
    system, path = _open(url)
    if system.exists(path):
        system.copy(path, _open(previous)[1])
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    system.pipe_file(path, content)


def read_remote(url: str) -> bytes | None:
    """Return what is in a file, None where there is none."""
    system, path = _open(url)
    try:
        content: bytes = system.cat_file(path)
    except FileNotFoundError:
        return None
    return content


def remove_remote(url: str, *, recursive: bool = False) -> None:
    """Remove a file, or a folder, if it is there."""
    system, path = _open(url)
    if system.exists(path):
        system.rm(path, recursive=recursive)


def _open(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    system.invalidate_cache()  # other hosts write there too
    return system, path


def _shown(url: str) -> str:
    """Return an address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"

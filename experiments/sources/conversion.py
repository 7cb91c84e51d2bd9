"""A conversion that goes on where it was interrupted, and whose folder appears whole or not at all."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from experiments.sources.folder import may_be_written, start_folder
from experiments.terminal import say
from experiments.versions import package_version
from experiments.whole import make_private, one_at_a_time, put_in_place
from fusion.component import UsageError

Found = TypeVar("Found")
_ABOUT, _STEPS = "about.json", "steps.jsonl"


class Steps:
    """The steps of a conversion, each done once, whatever ends the process in between.

    What a step returns is plain data, kept in a file of one line a step; a line that was cut off counts as none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        self._done = dict(map(json.loads, whole))
        if whole != lines:
            path.write_bytes(b"".join(whole))

    def __len__(self) -> int:
        return len(self._done)

    def once(self, name: str, work: Callable[[], Found]) -> Found:
        """Return what a step found, from the file where it is done already."""
        if name not in self._done:
            line = json.dumps([name, work()], ensure_ascii=False) + "\n"
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._done[name] = json.loads(line)[1]
        found: Found = self._done[name]
        return found


@dataclass(frozen=True)
class Conversion:
    """Where a conversion writes: `folder` becomes the data folder; `parts` are rows laid apart, gone in the end."""

    folder: Path
    parts: Path
    steps: Steps


@contextmanager
def conversion(
    out: Path,
    sources: Iterable[Path],
    options: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Iterator[Conversion]:
    """Yield where to convert to; it becomes `out` when all went well.

    What was done stays beside `out` when the process is killed or interrupted, or the system refuses (a full disk),
    and the next conversion with the same sources (by name, size and time of change) and options goes on from there.
    After any other error nothing stays.

    Raises:
        UsageError: `out` is there and not to be overwritten, holds a source, or another process makes it now.
    """
    may_be_written(out, overwrite=overwrite)
    sources = list(sources)
    if any(path.resolve().is_relative_to(out.resolve()) for path in sources):
        raise UsageError(f"{out} holds what is to be converted; choose another folder")
    work = out.with_name(f".{out.name}.unfinished-{platform.node()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = one_at_a_time(work)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{out}: another process is making it") from None
    try:
        yield _begin(work, _about(sources, options), out, progress)
        make_private(work / "folder")
        put_in_place(work / "folder", out)
        shutil.rmtree(work, ignore_errors=True)
    except (OSError, KeyboardInterrupt):
        raise
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        lock.release()


def _begin(work: Path, about: dict[str, Any], out: Path, progress: bool) -> Conversion:
    """Go on with what is there if it is of the same sources and options; else begin anew, and say why."""
    changed = _changed(work, about)
    if changed and work.exists():
        if progress:
            say(f"{out}: an earlier conversion was interrupted, but {changed}; begins anew")
        shutil.rmtree(work)
    if not work.exists():
        work.mkdir(mode=0o700)
        start_folder(work / "folder")
        (work / "parts").mkdir()
        (work / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    steps = Steps(work / _STEPS)
    if len(steps) and progress:
        say(f"{out}: goes on with a conversion that was interrupted; {len(steps):,} of its steps are done")
    return Conversion(work / "folder", work / "parts", steps)


def _about(sources: Iterable[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Say from what is converted and how, as JSON has it."""
    files = {}
    for path in sources:
        found = path.stat()
        files[str(path.resolve())] = [found.st_size, found.st_mtime_ns]
    about = {"options": dict(options), "files": files, "version": package_version("ehrfusion")}
    plain: dict[str, Any] = json.loads(json.dumps(about, default=str))
    return plain


def _changed(work: Path, about: Mapping[str, Any]) -> str | None:
    """Say what is otherwise than in what was interrupted; None where all is the same."""
    try:
        before = json.loads((work / _ABOUT).read_text(encoding="utf-8"))
        files, options = before["files"], before["options"]
    except (OSError, ValueError, KeyError):
        return "it had hardly begun"
    if not (work / "folder").is_dir():
        return "it was done"
    if before.get("version") != about["version"]:
        return "by another version"
    for name in sorted({*options, *about["options"]}):
        if options.get(name) != about["options"].get(name):
            return f"the option {name} is another"
    for path in sorted({*files, *about["files"]}):
        if files.get(path) != about["files"].get(path):
            return f"{path} has changed"
    return None

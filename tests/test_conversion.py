"""A conversion that was ended on the way goes on when it is given again, and ends byte for byte as any other."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from test_meds_source import write_meds
from toy_eicu import write_patients, write_table
from toy_films import write_films, write_reports
from toy_mimic import ANNA, BERT, put, write_core
from toy_omop import write_omop
from toy_tabular import STAYS, write_ward

from experiments.cli import main
from experiments.sources import conversion, shards, tables
from experiments.sources.conversion import Steps
from experiments.sources.eicu import convert as eicu
from experiments.whole import one_at_a_time
from fusion.component import UsageError

Source = tuple[list[str], Path]  # the command without its folder, and a file of the source


def mimic4_source(root: Path) -> Source:
    write_core(root / "source", 4)
    move = {"transfertime": "2150-03-01 12:00:00", "curr_service": "MED"}
    path = put(root / "source", 4, "services", [{"subject_id": who, **move} for who in (ANNA, BERT, 77)])
    diagnosis = {"subject_id": ANNA, "hadm_id": 1, "icd_code": "I10", "icd_version": 10}
    put(root / "source", 4, "diagnoses_icd", [diagnosis, diagnosis])
    write_films(root / "mimic-cxr-jpg")
    write_reports(root / "mimic-cxr-reports")
    beside = ["--with", str(root / "mimic-cxr-jpg"), "--with", str(root / "mimic-cxr-reports")]
    return ["mimic4", str(root / "source"), *beside], path


def mimic3_source(root: Path) -> Source:
    write_core(root / "source", 3)
    move = {"subject_id": ANNA, "transfertime": "2150-01-02 12:00:00", "curr_service": "MED"}
    return ["mimic3", str(root / "source")], put(root / "source", 3, "services", [move])


def eicu_source(root: Path) -> Source:
    write_patients(root / "source")
    row = {"treatmentid": 1, "treatmentoffset": 5, "treatmentstring": "renal|dialysis"}
    late = row | {"treatmentoffset": 90_000}
    rows = [{"patientunitstayid": 11, **row}, {"patientunitstayid": 21, **late}, {"patientunitstayid": 1, **row}]
    return ["eicu", str(root / "source")], write_table(root / "source", "treatment", rows)


def omop_source(root: Path) -> Source:
    write_omop(root / "source")
    return ["omop", str(root / "source")], root / "source" / "death.csv"


def meds_source(root: Path) -> Source:
    write_meds(root / "source")
    return ["meds", str(root / "source")], root / "source" / "data" / "train" / "0.parquet"


def table_source(root: Path) -> Source:
    path = write_ward(root / "source")
    return ["table", str(path)], root / "source" / "stays.csv"


SOURCES = {
    each.__name__.removesuffix("_source"): each
    for each in (mimic4_source, mimic3_source, eicu_source, omop_source, meds_source, table_source)
}


@pytest.fixture(params=list(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    make: Callable[[Path], Source] = SOURCES[request.param]
    return make(tmp_path / "from")


def convert(source: Source, out: Path) -> int:
    command, *rest = source[0]
    return main(["data", command, rest[0], str(out), *rest[1:]])


def content(out: Path) -> dict[str, Any]:
    """Return every file's bytes and mode; of the description all but when it was written."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        if path.is_file():
            found[path.relative_to(out).as_posix()] = (path.read_bytes(), path.stat().st_mode)
    about = json.loads(found["metadata/dataset.json"][0])
    del about["created_at"]
    return found | {"metadata/dataset.json": about}


class Ending:
    """Counts the writes of a conversion and ends it before the one that is wanted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None, error: BaseException) -> None:
        self.written, self.at, self.error = 0, at, error
        for module, name in ((tables, "_write"), (shards, "write_events"), (eicu, "write_events")):
            monkeypatch.setattr(module, name, self.before(getattr(module, name)))
        monkeypatch.setattr(conversion, "make_private", self.before(conversion.make_private))

    def before(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def ending(*arguments: Any, **more: Any) -> Any:
            self.written += 1
            if self.written == self.at:
                raise self.error
            return write(*arguments, **more)

        return ending


def test_ended_at_any_write_it_goes_on_and_ends_as_one_that_was_not(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as watched:
        whole = Ending(watched, None, KeyboardInterrupt())
        assert convert(source, tmp_path / "whole") == 0
    said = capsys.readouterr().out
    wanted = content(tmp_path / "whole")
    points = sorted({2, whole.written // 2 + 1, whole.written})
    for at in points:
        out = tmp_path / f"out{at}"
        with monkeypatch.context() as ended:
            Ending(ended, at, KeyboardInterrupt() if at % 2 else OSError(errno.ENOSPC, "No space left on device"))
            assert convert(source, out) in (130, 2)
            assert not out.exists()
        with monkeypatch.context() as watched:
            again = Ending(watched, None, KeyboardInterrupt())
            capsys.readouterr()
            assert convert(source, out) == 0
        assert content(out) == wanted, at
        assert again.written <= whole.written - at + 2  # what was done is not done again
        now = capsys.readouterr().out
        if at > 2:
            assert "goes on with a conversion that was interrupted; " in now
        assert now.splitlines()[-3:] == [line.replace("/whole", f"/out{at}") for line in said.splitlines()[-3:]]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["from", "whole", *(f"out{at}" for at in points)])


def test_another_source_or_option_begins_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = mimic4_source(tmp_path / "from"), tmp_path / "out"

    def interrupt() -> None:
        with monkeypatch.context() as ended:
            Ending(ended, 6, KeyboardInterrupt())
            assert convert(source, out) == 130

    interrupt()
    assert convert((source[0] + ["--hours", "12"], source[1]), out) == 0
    said = f"{out}: an earlier conversion was interrupted, but"
    assert f"{said} the option hours is another; begins anew" in capsys.readouterr().out
    assert convert((source[0] + ["--hours", "12"], source[1]), tmp_path / "whole") == 0
    assert content(out) == content(tmp_path / "whole")
    out = tmp_path / "changed"
    interrupt()
    os.utime(source[1], ns=(0, 0))
    assert convert(source, out) == 0
    said = f"{out}: an earlier conversion was interrupted, but"
    assert f"{said} {source[1]} has changed; begins anew" in capsys.readouterr().out


def test_what_is_wrong_in_the_source_leaves_nothing(tmp_path: Path) -> None:
    path = write_ward(tmp_path / "from", stays=STAYS.replace("came", "come"))
    assert main(["data", "table", str(path), str(tmp_path / "out")]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["from"]


def test_no_source_is_overwritten(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by the folder of the source as the folder to write, nor by one above it."""
    folder = source[1].parent
    while folder.parent != tmp_path / "from":
        folder = folder.parent
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in (folder, tmp_path / "from"):
        assert convert((source[0] + ["--overwrite"], source[1]), out) == 2
        said = capsys.readouterr().err
        assert "--overwrite replaces nothing else" in said or "holds what is to be converted" in said
    about = folder / "metadata" / "dataset.json"
    about.parent.mkdir(exist_ok=True)
    if not about.is_file():  # a source in MEDS has it
        about.write_text("{}")
    assert convert((source[0] + ["--overwrite"], source[1]), folder) == 2
    assert "holds what is to be converted; choose another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_two_processes_do_not_make_one_folder(tmp_path: Path) -> None:
    source, out = table_source(tmp_path / "from"), tmp_path / "out"
    held = one_at_a_time(out.with_name(f".{out.name}.unfinished-{os.uname().nodename}"))
    with FileLock(held.lock_file), pytest.raises(UsageError, match="out: another process is making it"):
        conversion.conversion(out, [source[1]], {}).__enter__()


_KILLED = """
import os, signal, sys
from experiments.sources.conversion import Steps
once, at = Steps.once, int(sys.argv[1])
def dying(steps, name, work):
    def last():
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    return once(steps, name, last if len(steps) == at else work)
Steps.once = dying
from experiments.cli import main
main(sys.argv[2:])
"""


def test_killed_outright_it_goes_on_and_so_again(tmp_path: Path) -> None:
    """Each kill comes when a step has written everything and is not yet noted as done."""
    source, out = mimic4_source(tmp_path / "from"), tmp_path / "out"
    command, src, *rest = source[0]
    for at in ("4", "10"):
        words = [sys.executable, "-c", _KILLED, at, "data", command, src, str(out), *rest]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
        [left] = tmp_path.glob(".out.unfinished-*")
        assert left.stat().st_mode & 0o777 == 0o700
        assert len((left / "steps.jsonl").read_text().splitlines()) == int(at)
    assert convert(source, out) == 0
    assert convert(source, tmp_path / "whole") == 0
    assert content(out) == content(tmp_path / "whole")
    assert not left.exists()


def test_a_line_that_was_cut_off_is_no_step(tmp_path: Path) -> None:
    path, done = tmp_path / "steps.jsonl", []

    def work(name: str) -> list[str]:
        done.append(name)
        return [name]

    for name in ("a", "b"):
        Steps(path).once(name, lambda name=name: work(name))  # type: ignore[misc]
    path.write_bytes(path.read_bytes()[:-3])
    steps = Steps(path)
    assert len(steps) == 1
    assert [steps.once(name, lambda name=name: work(name)) for name in ("a", "b")] == [["a"], ["b"]]  # type: ignore[misc]
    assert done == ["a", "b", "b"]
    assert path.read_text() == '["a", ["a"]]\n["b", ["b"]]\n'

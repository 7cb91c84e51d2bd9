"""Does converting need more memory for more patients, or for more of each?

SOURCE is `omop` or `table` (tables are made up, 1,000 patients with 400 rows each if not said otherwise) or `mimic4`,
`mimic3` with --from, whose tables are copied as often as said, each time with other patients. With `table
--same-patients` the rows that are added are of the patients that were there. Every size is converted in a process of
its own; the peak of its resident memory is what the system kept count of. Ratios are to the smallest size of the run.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

STEP = 100_000_000  # between the ids of a patient and of its copy
KEYS = ("subject_id", "hadm_id", "stay_id", "icustay_id", "transfer_id")
MAPPING = """
name: made up
zone: Europe/Berlin
events:
  - {file: labs.csv, patient: person_id, time: taken, code: "LAB//{test}", value: result, unit: "{unit}"}
labels:
  - {name: died, file: labels.csv, patient: person_id, time: at, value: died}
"""


class Size(NamedTuple):
    """How many patients a copy has, with how many rows each, and whether all copies are of the same patients."""

    patients: int = 1_000
    rows: int = 400
    same: bool = False

    def persons(self, copy: int) -> NDArray[np.int64]:
        """Return who is in a copy."""
        return np.arange(self.patients) + (0 if self.same else copy * self.patients)


def make_omop(folder: Path, times: int, size: Size) -> None:
    """Write measurements, visits and conditions of made-up patients, a copy at a time."""
    concepts = np.arange(1, 301)
    names = {"concept_id": concepts, "concept_name": concepts, "vocabulary_id": "LOINC", "concept_code": concepts}
    pl.DataFrame(names).write_csv(folder / "concept.csv")
    for copy in range(times):
        rng, persons = np.random.default_rng(copy), size.persons(copy)
        years = rng.integers(1930, 1990, size.patients)
        born = {"person_id": persons, "year_of_birth": years, "gender_concept_id": 8507}
        _append(folder / "person.csv", pl.DataFrame(born))
        rows = np.repeat(persons, size.rows)
        told = {
            "person_id": rows,
            "measurement_concept_id": rng.choice(concepts, len(rows)),
            "measurement_datetime": pl.Series(_times(rng, len(rows))),
            "value_as_number": rng.normal(100, 20, len(rows)).round(2),
            "unit_source_value": "mg/dL",
        }
        _append(folder / "measurement.csv", pl.DataFrame(told))


def make_table(folder: Path, times: int, size: Size) -> None:
    """Write a hospital's table of laboratory values and one of labels, with their description."""
    (folder / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    for copy in range(times):
        rng, persons = np.random.default_rng(copy), size.persons(copy)
        rows = np.repeat(persons, size.rows)
        tests = pl.Series([f"test {number}" for number in range(300)])
        told = {
            "person_id": rows,
            "taken": pl.Series(_times(rng, len(rows))),
            "test": tests.gather(rng.integers(0, 300, len(rows))),
            "result": rng.normal(100, 20, len(rows)).round(2),
            "unit": "mg/dL",
        }
        _append(folder / "labs.csv", pl.DataFrame(told))
        truth = {"person_id": persons, "at": "2020-01-01 00:00:00", "died": rng.integers(0, 2, size.patients)}
        if not copy or not size.same:
            _append(folder / "labels.csv", pl.DataFrame(truth))


def copy_tables(source: Path, folder: Path, times: int) -> None:
    """Copy the tables of MIMIC, their ids moved at each copy; a table about nobody is there once."""
    for path in sorted(source.rglob("*.csv.gz")):
        table = pl.read_csv(path, infer_schema=False)
        keys = [name for name in table.columns if name.lower() in KEYS]
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(target, "wb", compresslevel=1) as file:
            for copy in range(times if keys else 1):
                moved = [pl.col(key).cast(pl.Int64) + copy * STEP for key in keys]
                file.write(table.with_columns(moved).write_csv(include_header=not copy).encode())


def convert(name: str, folder: Path, out: Path) -> int:
    """Convert a source and return the number of events."""
    if name == "omop":
        from experiments.sources.omop import convert_omop

        return int(convert_omop(folder, out)["events"])
    if name == "table":
        from experiments.sources.tabular import convert_tables

        return int(convert_tables(folder / "mapping.yaml", out)["events"])
    from experiments.sources.mimic import convert_mimic

    return int(convert_mimic(folder, out, 4 if name == "mimic4" else 3)["events"])


def _append(path: Path, table: pl.DataFrame) -> None:
    with path.open("ab") as file:
        table.write_csv(file, include_header=not file.tell())


def _times(rng: np.random.Generator, number: int) -> np.ndarray:
    start = np.datetime64("2019-01-01T00:00:00", "ms")
    return start + 1000 * rng.integers(60, 31_000_000, number).astype("timedelta64[ms]")


def _measured(name: str, folder: Path, out: Path) -> dict[str, float]:
    """Convert in a process of its own and return what it says."""
    command = [sys.executable, __file__, name, "--inside", str(folder), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _inside(name: str, folder: Path, out: Path) -> None:
    importlib.import_module("experiments.sources.mimic")  # and with it nearly everything that a converter loads
    loaded, started = _peak_mb(), time.monotonic()
    events = convert(name, folder, out)
    seconds = time.monotonic() - started
    print(json.dumps({"events": events, "loaded_mb": loaded, "peak_mb": _peak_mb(), "seconds": seconds}))


def _peak_mb() -> float:
    """Return the peak of this program; what `resource` tells would have that of the one that started it in it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10


def main() -> None:
    """Make each size, convert it and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=("omop", "table", "mimic3", "mimic4"))
    parser.add_argument("--times", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--from", dest="demo", type=Path, help="folder of a MIMIC release")
    parser.add_argument("--patients", type=int, default=Size().patients, help="of a copy of what is made up")
    parser.add_argument("--rows", type=int, default=Size().rows, help="of each patient of a copy")
    parser.add_argument("--same-patients", action="store_true", help="all copies are of the same patients (table)")
    parser.add_argument("--scratch", type=Path, default=Path("runs/converting"))
    parser.add_argument("--inside", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        _inside(given.source, *given.inside)
        return
    if given.same_patients and given.source != "table":
        parser.error("--same-patients is for table")
    heads = ["times", "source MB", "events", "loaded MB", "peak MB", "peak / first", "events / first", "seconds"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    first: dict[str, float] = {}
    for times in given.times:
        folder, out = given.scratch / f"{given.source}-{times}", given.scratch / f"{given.source}-{times}-out"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(given.source, given.demo, folder, times, Size(given.patients, given.rows, given.same_patients))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        found = _measured(given.source, folder, out)
        first = first or found
        memory = [f"{found[name]:.0f}" for name in ("loaded_mb", "peak_mb")]
        ratios = [f"{found[name] / first[name]:.2f}" for name in ("peak_mb", "events")]
        numbers = [str(times), f"{size:.0f}", f"{found['events']:,.0f}", *memory, *ratios, f"{found['seconds']:.0f}"]
        print(f"| {' | '.join(numbers)} |", flush=True)
        for each in (folder, out):
            shutil.rmtree(each)


def _make(name: str, demo: Path, folder: Path, times: int, size: Size) -> None:
    makers: dict[str, Callable[[Path, int, Size], None]] = {"omop": make_omop, "table": make_table}
    if name in makers:
        makers[name](folder, times, size)
    else:
        copy_tables(demo, folder, times)


if __name__ == "__main__":
    main()

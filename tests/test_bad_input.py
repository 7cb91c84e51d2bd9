"""Every converter and everything that is wrong with tables: one line that names it, or a number with the reason."""

from __future__ import annotations

import errno
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.csv as arrow_csv
import pytest
from test_conversion import SOURCES, Source, convert

FAULTS = ("truncated", "extra", "dtype", "repeated", "missing", "order", "zone", "fraction")
# Of each source: the table of patients or persons, that whose rows have times, the columns of the id and the time.
PLACES = {
    "mimic4": ("hosp/patients.csv", "hosp/services.csv.gz", "subject_id", "transfertime"),
    "mimic3": ("PATIENTS.csv.gz", "SERVICES.csv.gz", "SUBJECT_ID", "TRANSFERTIME"),
    "eicu": ("patient.csv", "treatment.csv.gz", "patientunitstayid", "treatmentoffset"),
    "omop": ("person.csv", "drug_exposure.csv", "person_id", "drug_exposure_start_datetime"),
    "meds": ("", "data/train/0.parquet", "subject_id", "time"),
    "table": ("stays.csv", "stays.csv", "pid", "came"),
}


def read(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)


def write(path: Path, table: pl.DataFrame) -> None:
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        text = table.write_csv().encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def changed(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    write(path, change(read(path)))


def first(column: str, value: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Put a text into the first row of a column."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        texts = table[column].cast(pl.String)
        return table.with_columns(pl.Series(column, [value, *texts[1:]]))

    return change


def spoil(root: Path, name: str, fault: str) -> None:
    core, timed, key, time = PLACES[name]
    folder = root / "source"
    path, people = folder / timed, folder / core
    if fault == "truncated":
        if path.suffix == ".csv":
            path.rename(path.with_suffix(".csv.gz"))
            path = path.with_suffix(".csv.gz")
            path.write_bytes(gzip.compress(path.read_bytes()))
            described = folder / "ward.yaml"
            if described.is_file():
                described.write_text(described.read_text(encoding="utf-8").replace(timed, f"{timed}.gz"))
        path.write_bytes(path.read_bytes()[:-20])
    elif fault == "extra":
        changed(path, lambda table: table.with_columns(pl.lit("more").alias("zzz")))
    elif fault == "dtype":
        changed(path, first(key, "secret"))
    elif fault == "repeated" and core:
        changed(people, lambda table: pl.concat([table, table[:1]]))
    elif fault == "repeated":
        changed(path, lambda table: pl.concat([table, table[:1]]))
    elif fault == "missing":
        (people if core else path).unlink()
    elif fault == "zone":
        changed(path, first(time, "2020-01-02 12:00:00+01:00"))
    elif fault == "fraction":
        changed(path, lambda table: table.with_columns(pl.col(key).cast(pl.String) + ".0"))
    elif fault == "order":
        disorder(folder, name)


def disorder(folder: Path, name: str) -> None:
    """Let a birth come after the death, or a discharge before the admission."""
    if name in ("mimic3", "mimic4"):
        [path] = [*folder.glob("hosp/admissions*"), *folder.glob("ADMISSIONS*")]
        column = "DISCHTIME" if name == "mimic3" else "dischtime"
        changed(path, first(column, "2149-01-01 10:00:00"))
    elif name == "eicu":
        changed(folder / "patient.csv", first("hospitaldischargeoffset", "-900000"))
    elif name == "omop":
        changed(folder / "death.csv", first("death_date", "1900-01-01"))
    elif name == "meds":
        path = folder / "data" / "train" / "0.parquet"
        rows = read(path)
        lives = rows[:2].with_columns(
            pl.Series("time", ["2020-01-02", "2020-01-01"]).str.to_datetime(time_unit="us"),
            pl.Series("code", ["MEDS_BIRTH", "MEDS_DEATH"]),
        )
        write(path, pl.concat([rows, lives.cast(dict(rows.schema))]))


INTEGER, WHOLE, DAMAGED = (
    "must be integer; got another type",
    "must be a whole number; got another type",
    ": damaged or not a",
)
# What is said of each fault: for a refusal the end of its line, else what the reconciliation counts; "" is no word.
SAID: dict[str, dict[str, str]] = {
    "mimic4": {
        **{"truncated": DAMAGED, "dtype": INTEGER, "fraction": INTEGER, "repeated": "'subject_id' repeats a row above"},
        **{"missing": "patients.csv or patients.csv.gz is missing", "order": "left out: discharge before admission,1"},
        "zone": "left out: no readable time in transfertime,1",
    },
    "eicu": {
        **{"truncated": DAMAGED, "dtype": INTEGER, "fraction": INTEGER, "zone": INTEGER},
        **{"repeated": "'patientunitstayid' repeats a unit stay", "missing": "it is the one table that is needed"},
        "order": "in the hospital then too (a few records contradict the unit's)",
    },
    "omop": {
        **{"truncated": DAMAGED, "dtype": WHOLE, "repeated": "row 5: 'person_id' repeats a row above"},
        **{"missing": "OMOP cannot be read without it", "order": "left out: birth after death,"},
        **{"zone": "has an offset or zone; say in which zone the other times are", "fraction": "written like 123.0: 2"},
    },
    "meds": {
        **{"truncated": "not readable as parquet: it is damaged", "dtype": WHOLE, "fraction": "written like 123.0: 12"},
        **{"repeated": "left out: says what another row says,1", "order": "left out: birth after death,1"},
        **{"extra": "columns that are not in the copy: hadm_id, zzz", "missing": "", "zone": ""},
    },
    "table": {
        **{"truncated": DAMAGED, "missing": "unknown table 'stays.csv'", "order": "left out: went before came,1"},
        **{"repeated": "left out: says what another row says,", "dtype": "", "zone": "", "fraction": ""},
    },
}
SAID["mimic3"] = SAID["mimic4"] | {"zone": "column 'transfertime' must be time; got another type"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", list(SOURCES))
def test_it_is_named_or_counted(name: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id of a table may be any text, times with offsets are read, and what a folder should hold is not known."""
    source: Source = SOURCES[name](tmp_path / "from")
    spoil(tmp_path / "from", name, fault)
    out = tmp_path / "out"
    code, shown = convert(source, out), capsys.readouterr()
    wanted = SAID[name].get(fault, "")
    if code:
        assert code == 2
        assert len(shown.err.strip().splitlines()) == 1
        assert "secret" not in shown.err
        assert wanted in shown.err
        assert wanted
        assert [each.name for each in tmp_path.iterdir()] == ["from"]
    else:
        ledger = out / "reconciliation.csv"
        assert wanted in shown.out + (ledger.read_text(encoding="utf-8") if ledger.is_file() else "")


@pytest.mark.parametrize("name", ["mimic4", "table"])
def test_a_disk_that_fails_is_no_damaged_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system says why, what was read before stays, and the same command goes on."""
    source = SOURCES[name](tmp_path / "from")
    read = arrow_csv.open_csv
    opened = []

    def failing(*arguments: Any, **more: Any) -> Any:
        opened.append(1)
        if len(opened) == 5:
            raise OSError(errno.EIO, "Error reading bytes from file")
        return read(*arguments, **more)

    with monkeypatch.context() as failed:
        failed.setattr(arrow_csv, "open_csv", failing)
        assert convert(source, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"ehrfusion: Input/output error: .*\.csv(\.gz)?\n", said)
    assert not (tmp_path / "out").exists()
    assert convert(source, tmp_path / "out") == 0
    assert "goes on with a conversion that was interrupted" in capsys.readouterr().out


def test_an_unknown_column_changes_nothing(tmp_path: Path) -> None:
    source = SOURCES["omop"](tmp_path / "from")
    assert convert(source, tmp_path / "plain") == 0
    spoil(tmp_path / "from", "omop", "extra")
    assert convert(source, tmp_path / "extra") == 0
    files = [sorted((tmp_path / name / "data").iterdir()) for name in ("plain", "extra")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]

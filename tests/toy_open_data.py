"""The open data sets beside the project: from raw files to a registered model in the steps of docs/open-data.md."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.cli import main
from experiments.sources.frames import write_frame
from experiments.sources.tabular import convert_tables, load_mapping

DOCS = Path(__file__).resolve().parents[1] / "docs"
LESS = ["training.epochs=1", "search.trials=1", "search.pruner=none", "finalists.top=1", "finalists.seeds=1"]
_CODES = ("space.encoders={codes: bag}", "data.preprocess.codes.max_events=64")
_ALL = ("space.encoders={codes: bag, notes: bag, images: conv}",)
_NOTES = ("space.encoders={codes: bag, notes: bag}", _CODES[1])


@dataclass(frozen=True)
class OpenSet:
    """How a set becomes a folder, and which study and label it is for.

    `extra` keeps the test short, and so does an audit of the smallest sets alone; docs/open-data.md audits all.
    """

    source: str
    study: str
    label: str
    verb: str | None = None
    extra: tuple[str, ...] = ()
    audited: bool = False


SETS = {
    each.source: each
    for each in (
        OpenSet("mimic-iii-demo", "mimic3-mortality", "hospital_mortality", "mimic3", _CODES),
        OpenSet("mimic-iv-demo", "mimic4-mortality", "hospital_mortality", "mimic4", _CODES, audited=True),
        OpenSet(
            "eicu-demo",
            "eicu-mortality",
            "hospital_mortality",
            "eicu",
            ("space.encoders={codes: bag, notes: bag}", _CODES[1]),
        ),
        OpenSet("covid-chestxray", "covid-cxr", "covid19", "covid-cxr", _ALL, audited=True),
        OpenSet("mts-dialog", str(DOCS / "open-data" / "mts-dialog.yaml"), "section"),
        OpenSet("yaib-demo", str(DOCS / "open-data" / "yaib-mortality.yaml"), "died"),
    )
}


def write(each: OpenSet, shared: Path, out: Path) -> None:
    """Make the data folder of a set."""
    if each.verb is not None:
        assert main(["data", each.verb, str(shared / each.source), str(out)]) == 0
    elif each.source == "yaib-demo":
        mapping = load_mapping(DOCS / "open-data" / "yaib.yaml")
        convert_tables(mapping.model_copy(update={"source": shared / "yaib-demo" / "mortality24" / "eicu_demo"}), out)
    else:
        files = sorted((shared / each.source / "Main-Dataset").glob("*.csv"))
        table = pl.concat(map(pl.read_csv, files))
        write_frame(table.select(notes="dialogue"), table["section_header"].to_numpy(), out, label=each.label)


def register(each: OpenSet, folder: Path, runs: Path) -> None:
    """Search with one trial of one epoch, in this process, and register what it found as `each.source`.

    No encoder is `none` here: a worker's dice are its own, and a trial without any modality is pruned.
    """
    given = [f"data.folder={folder}", "search.workers=1", "space.dim=8", "space.fusion=early", *LESS, *each.extra]
    assert main(["worker", "--study", each.study, "--runs", str(runs), *given]) == 0
    audit = [] if each.audited else ["--no-audit"]
    study = Path(each.study).stem
    assert main(["register", study, "--name", each.source, "--promote", "--runs", str(runs), *audit]) == 0


def rows(folder: Path) -> dict[str, int]:
    """Return how many rows of each table were read, from the reconciliation."""
    with (folder / "reconciliation.csv").open(encoding="utf-8") as file:
        return {line["table"]: int(line["n"]) for line in csv.DictReader(file) if line["what"] == "rows"}


def count(folder: Path, pattern: str) -> int:
    """Return how many events have a code that matches."""
    lazy = pl.scan_parquet(folder / "data" / "*.parquet")
    return int(lazy.select(pl.col("code").str.contains(pattern).sum()).collect().item())


def events(folder: Path) -> pl.DataFrame:
    """Return all events of a folder."""
    return pl.read_parquet(folder / "data" / "*.parquet")

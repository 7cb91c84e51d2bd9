"""`ehrfusion data meds, omop, table`: the verbs for data that people have in forms of their own."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from experiments.terminal import console, say


def add_source_verbs(kinds: Any) -> None:
    """Add the verbs to those of `ehrfusion data`."""
    meds = kinds.add_parser("meds", help="use any MEDS dataset in place, or copy it")
    meds.add_argument("source", type=Path)
    meds.add_argument("out", type=Path, nargs="?", help="folder of the copy; without one, what is missing is added")
    meds.add_argument("--note-codes", metavar="REGEX", help="codes whose texts are notes (with a copy)")
    meds.set_defaults(run="data_meds", late="out")
    omop = kinds.add_parser("omop", help="convert tables of the OMOP common data model (CSV, CSV.gz or parquet)")
    omop.add_argument("source", type=Path)
    omop.add_argument("out", type=Path)
    omop.add_argument("--codes", choices=("standard", "source"), default="standard", help="which concept is the code")
    when = "when diagnoses and procedures are known: at the end of their visit (default), or as they are dated"
    omop.add_argument("--coded", choices=("visit-end", "dated"), default="visit-end", help=when)
    midnight = "what midnight sharp is: a date, which counts from the end of the day (default), or a time"
    omop.add_argument("--midnight", choices=("date", "time"), default="date", help=midnight)
    omop.add_argument("--zone", help="time zone of the times, e.g. Europe/Berlin; then all become UTC")
    omop.set_defaults(run="data_omop")
    for verb in (meds, omop):
        text = "labels in MEDS' schema: a parquet file, or a folder of them; may be said several times"
        verb.add_argument("--labels", type=Path, action="append", default=[], metavar="FILE", help=text)
        verb.add_argument("--seed", type=int, default=0, help="of the splits, where there are none")
    table = kinds.add_parser("table", help="convert a hospital's own CSV or parquet tables, described in YAML")
    table.add_argument("mapping", type=Path, nargs="?", help="the description: docs/data.md")
    table.add_argument("out", type=Path, nargs="?")
    table.add_argument("--schema", action="store_true", help="print the JSON schema of descriptions and do nothing")
    table.set_defaults(run="data_table", late="out")
    for verb in (meds, omop, table):
        verb.add_argument("--overwrite", action="store_true", help="replace what is there")


def data_meds(arguments: Namespace) -> int:
    """Use a MEDS dataset in place, or copy it."""
    from experiments.sources.meds import convert_meds, use_in_place
    from fusion.component import UsageError

    common: dict[str, Any] = {"labels": arguments.labels, "seed": arguments.seed, "overwrite": arguments.overwrite}
    if arguments.out is not None:
        summary = convert_meds(arguments.source, arguments.out, notes=arguments.note_codes, progress=True, **common)
        _converted(summary, arguments.out)
        for code, number in summary["long_texts"].items():
            say(f"{number:,} long texts of {code} are no notes here; --note-codes would make them some")
        return 0
    if arguments.note_codes is not None:
        raise UsageError("--note-codes changes codes, so it needs a folder for the copy")
    summary = use_in_place(arguments.source, progress=True, **common)
    say(f"{summary['patients']:,} patients, {summary['codes']:,} codes: can be used as it is")
    _flow(summary)
    say(f"added: {', '.join(summary['added']) or 'nothing'}")
    if summary["spelled_differently"]:
        example = f"{summary['spelled_differently']:,} ICD codes are spelled like {summary['for_example'][0]}"
        say(f"{example}; in a copy (ehrfusion data meds SOURCE OUT) the ontologies know them")
    say(f"look at it with: ehrfusion data check {arguments.source}")
    return 0


def data_omop(arguments: Namespace) -> int:
    """Convert tables of the OMOP common data model."""
    from experiments.sources.omop import convert_omop

    summary = convert_omop(
        arguments.source,
        arguments.out,
        codes=arguments.codes,
        coded=arguments.coded,
        midnight=arguments.midnight,
        zone=arguments.zone,
        labels=arguments.labels,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        progress=True,
    )
    _converted(summary, arguments.out)
    return 0


def data_table(arguments: Namespace) -> int:
    """Convert a hospital's own tables."""
    from experiments.sources.tabular import convert_tables, mapping_schema
    from fusion.component import UsageError

    if arguments.schema:
        say(mapping_schema())
        return 0
    if arguments.mapping is None or arguments.out is None:
        raise UsageError("give a description and a folder: ehrfusion data table MAPPING.yaml OUT")
    summary = convert_tables(arguments.mapping, arguments.out, overwrite=arguments.overwrite, progress=True)
    _converted(summary, arguments.out)
    return 0


def _converted(summary: dict[str, Any], out: Path) -> None:
    from experiments.sources.ledger import render

    console().print(render(summary["tables"]))
    _flow(summary)
    for note, number in summary["notes"].items():
        say(f"{note}: {number:,}")
    if summary.get("unused"):
        say(f"columns that are not in the copy: {', '.join(summary['unused'])}")
    if summary.get("missing_tables"):
        say(f"tables not found in the source: {', '.join(summary['missing_tables'])}")
    numbers = f"{summary['patients']:,} patients, {summary['events']:,} events, {summary['codes']:,} codes"
    say(f"wrote {out}: {numbers}; look at it with: ehrfusion data check {out}")


def _flow(summary: dict[str, Any]) -> None:
    for name, steps in summary["labels"].items():
        say(f"{name}: " + "; ".join(f"{step['step']} {step['n']:,}" for step in steps))

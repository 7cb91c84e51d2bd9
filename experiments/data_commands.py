"""What each verb of `ehrfusion data` does: make, convert or check a folder."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from experiments.terminal import console, say


def data_synthetic(arguments: Namespace) -> int:
    """Write a synthetic folder."""
    from experiments.sources.synthetic import write_synthetic

    truth = write_synthetic(
        arguments.out,
        patients=arguments.patients,
        seed=arguments.seed,
        recipe=arguments.recipe,
        missing=arguments.missing,
        note_missing=arguments.note_missing,
        image_missing=arguments.image_missing,
        overwrite=arguments.overwrite,
        progress=True,
    )
    say(f"wrote {arguments.patients:,} patients to {arguments.out} (recipe {arguments.recipe}): {truth['story']}")
    return 0


def data_check(arguments: Namespace) -> int:
    """Validate and summarise a folder."""
    from experiments.data.check import check, render

    found = check(arguments.folder)
    console().print(render(found))
    if found.ok and arguments.anomalies is not None:
        from experiments.generative.command import check_anomalies

        check_anomalies(arguments)
    return 0 if found.ok else 1


def data_eicu(arguments: Namespace) -> int:
    """Convert eICU."""
    from experiments.sources.eicu import convert_eicu
    from experiments.sources.ledger import render

    summary = convert_eicu(
        arguments.source,
        arguments.out,
        yaib=arguments.hourly,
        seed=arguments.seed,
        split_by=arguments.split_by,
        overwrite=arguments.overwrite,
        progress=True,
    )
    console().print(render(summary["tables"]))
    _converted(summary, arguments.out)
    return 0


def data_mimic(arguments: Namespace) -> int:
    """Convert MIMIC-III or MIMIC-IV."""
    from experiments.sources.ledger import render
    from experiments.sources.mimic import convert_mimic

    summary = convert_mimic(
        arguments.source,
        arguments.out,
        arguments.version,
        hours=arguments.hours,
        beside=getattr(arguments, "beside", ()),
        images=getattr(arguments, "images", "link"),
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        progress=True,
    )
    console().print(render(summary["tables"]))
    _converted(summary, arguments.out)
    return 0


def data_covid_cxr(arguments: Namespace) -> int:
    """Convert the COVID-19 image data collection."""
    from experiments.sources.covid_cxr import convert_covid_cxr
    from experiments.sources.ledger import render

    summary = convert_covid_cxr(
        arguments.source,
        arguments.out,
        seed=arguments.seed,
        mask_finding=not arguments.keep_finding,
        overwrite=arguments.overwrite,
        progress=True,
    )
    console().print(render(summary["tables"]))
    _converted(summary, arguments.out)
    return 0


def _converted(summary: dict[str, Any], out: Path) -> None:
    for name, steps in summary.get("labels", {}).items():
        say(f"{name}: " + "; ".join(f"{step['step']} {step['n']:,}" for step in steps))
    missing = summary.get("missing_tables") or []
    if missing:
        say(f"tables not found in the source: {', '.join(missing)}")
    say(f"wrote {out}; look at it with: ehrfusion data check {out}")

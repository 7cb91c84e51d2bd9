"""The README of a folder that was made of a hospital's own tables."""

from __future__ import annotations

from typing import Any

from experiments.sources.tabular.mapping import Mapping

_TEXT = """# {name}, converted to MEDS 0.4 by ehrfusion

{patients:,} patients, {events:,} events, {codes:,} codes, {images:,} images. Licence: {license}.

## What was done
- Patients: {ids}
- Times: {times} What bears a date only counts from the end of that day. Where a table says when a fact became
  available, it counts from then.
- `reconciliation.csv` says where every row of the tables went, `cohort.json` who is predicted.
- ICD codes are spelled `ICD10CM//I50.23`, whatever their spelling was; what is above them is in `parent_codes`.
"""
_IDS = {
    "integer": "`subject_id` is the number in the tables.",
    "text": "numbered; `metadata/subjects.parquet` says who is who, and must stay here.",
}


def readme(mapping: Mapping, summary: dict[str, Any]) -> str:
    """Return the README of a converted folder."""
    times = (
        "as in the tables, without a zone." if mapping.zone is None else f"UTC; those of the tables are {mapping.zone}."
    )
    return _TEXT.format(
        name=mapping.name, license=mapping.license.rstrip("."), ids=_IDS[mapping.ids], times=times, **summary
    )

"""The README of converted OMOP tables: what was done, what to beware of."""

from __future__ import annotations

from typing import Any

from experiments.sources.omop.said import Reading

_TEXT = """# OMOP CDM tables, converted to MEDS 0.4 by ehrfusion

{patients:,} patients, {events:,} events, {codes:,} codes. Licence: as the source.

## What was done
- `subject_id` is `person_id`; the column `site` is `care_site_id` of the person.
- Codes are the vocabulary and the concept's code (`SNOMED//84114007`, `ICD10CM//I50.23`) of the {codes_of}
  concept, and of the other where that is 0. A finding with an answer has both: `LOINC//5792-7|SNOMED//10828004`.
- Times: {zone}. What bears a date only counts from the end of that day{midnight}.
- Diagnoses and procedures count {coded}.
- A measurement counts from its own time: the common data model does not say when its result was known.
- Drugs and devices count from their start; doses are not taken. `<` and `>` beside a number are not taken.
- Notes are `NOTE//` and their class. A birthday without a month or day is the first that it may be.
- `parent_codes`: what `concept_ancestor` (else the relation "Is a") has directly above a concept, all the way up;
  for ICD codes their own hierarchy. `graph/edges.parquet`: which standard concept a used concept maps to.
- `reconciliation.csv` says where every row went. Tables not found in the source: {missing}.
"""
_MIDNIGHT = {"date": "; so does midnight sharp, which most often is a date that lost its hour", "time": ""}
_CODED = {"visit-end": "from the end of their visit, when they are coded", "dated": "from their own date"}


def readme(reading: Reading, coded: str, summary: dict[str, Any]) -> str:
    """Return the README of a converted folder."""
    zone = "as in the tables" if reading.zone is None else f"UTC; those of the tables are {reading.zone}"
    return _TEXT.format(
        codes_of="standard" if reading.codes == "standard" else "source's own",
        zone=zone,
        midnight=_MIDNIGHT[reading.midnight],
        coded=_CODED[coded],
        missing=", ".join(summary["missing_tables"]) or "none",
        **{name: summary[name] for name in ("patients", "events", "codes")},
    )

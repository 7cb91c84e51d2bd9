"""The README of a converted MIMIC: source, terms, what was done, what to beware of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.sources.mimic.films import REPORT_HOURS
from experiments.sources.mimic.people import Version
from experiments.sources.terms import Terms, read_terms

_TEXT = """# {name}, converted to MEDS 0.4 by ehrfusion

{counts}

## Source and terms
{attribution}
Licence: {licence}. {terms}

## Changes made here
- `subject_id` is that of the release, so that other data on its patients can be joined. Times are those of the
  release: shifted by patient, true within a patient.
- An event counts from when it was known, not from when it was so:
  - billing codes (`ICD9CM//`, `ICD10CM//`, `ICD9PROC//`, `ICD10PCS//`, `DRG//`, `CPT//`, `HCPCS//`) from the end of
    their hospital stay, whenever the procedure was; those of a visit to the emergency department, too;
  - what is charted or measured from its storage, where the release has that (`storetime`), else from its chart time;
  - a rate of an infusion from its start and storage, an amount from its end and storage; rewritten and cancelled rows
    are left out;
  - what bears a date without an hour (prescriptions of MIMIC-III, outpatient results, some notes) from its end;
  - a discharge summary never before the patient has left. A culture from its result; MIMIC-III has no time of it, so
    there it counts from the end of the stay.
- X-rays count from their study; reports of MIMIC-CXR, and what CheXpert and NegBio read in them, from {report_hours}
  hours after it, for the release has no time of a report. One that is in the notes, too, counts there from its storage.
- MIMIC-III has no time of a laboratory result: the time is that of the specimen, an hour or so too early.
- Birth (`MEDS_BIRTH`, from which the age at each prediction is counted): {birth}
- Vital signs: the common ones, by itemid, in one unit each (temperature in degC, weight in kg, height in cm, inspired
  oxygen in %), under the codes that eICU's converter uses. What cannot be true is left out, by channel, as
  `reconciliation.csv` says. CareVue's calculated temperatures repeat the measured and are not taken.
- Laboratory values: numbers only; the common ones under the codes that eICU's converter uses.
- Infusions have their unit in the code (`INFUSION//propofol (mcg/kg/min)`); drugs are `DRUG//NAME//` (ordered),
  `DRUG//GIVEN//` (given), `HOME_DRUG//NAME//` (before admission). No drug is mapped to ATC.
- Graph: `parent_codes` by ICD category, block and chapter, and groups of measurements, cultures and drugs.
- Outcomes are events after the stay: `UNIT_DISCHARGE//`, `HOSPITAL_DISCHARGE//`, `MEDS_DEATH`.

## Labels
One prediction a unit stay, {hours} hours after unit admission, for stays that last longer, of adults.
`hospital_mortality`: the hospital stay ended in death (`hospital_expire_flag`).
`unit_stay_over_3_days`: the unit stay lasts more than 72 hours. `cohort.json` says who was left out and why; nobody
is for lacking a modality. `reconciliation.csv` says where every row of the source went.

## Beware
- A death outside the hospital bears a date only, and is known for a year after the last stay (MIMIC-IV) or from public
  records (MIMIC-III).
- Tables not found in the source: {missing}.
"""
_BIRTH: dict[Version, str] = {
    3: "the release's; who is put 300 years before the first admission (over 89) is 91.4 at it. {shifted} patients.",
    4: "1 January of anchor_year - anchor_age; who is over 89 is 91 in the anchor year. {shifted} patients.",
}
_ATTRIBUTION: dict[Version, str] = {
    3: (
        "Johnson A, Pollard T, Shen L, Lehman L, Feng M, Ghassemi M, Moody B, Szolovits P, Celi LA, Mark R.\n"
        "MIMIC-III, a freely accessible critical care database. Scientific Data 3:160035 (2016)."
    ),
    4: (
        "Johnson A, Bulgarelli L, Shen L, Gayles A, Shammout A, Horng S, Pollard T, et al.\n"
        "MIMIC-IV, a freely accessible electronic health record dataset. Scientific Data 10:1 (2023)."
    ),
}
_NAMES: dict[Version, tuple[str, str, str]] = {
    3: ("MIMIC-III Clinical Database", "1.4", "1.4"),
    4: ("MIMIC-IV Clinical Database", "as the source", "2.2"),
}


def licence(src: Path, version: Version) -> Terms:
    """Read the terms from the licence file of the source."""
    return read_terms(src, *_NAMES[version])


def readme(terms: Terms, version: Version, hours: int, summary: dict[str, Any]) -> str:
    """Return the README of a converted folder."""
    return _TEXT.format(
        name=terms.name,
        counts=(
            f"{summary['patients']:,} patients, {summary['hospital_stays']:,} hospital stays, "
            f"{summary['unit_stays']:,} unit stays, {summary['events']:,} events."
        ),
        attribution=_ATTRIBUTION[version],
        licence=terms.licence,
        terms=terms.text,
        birth=_BIRTH[version].format(shifted=f"{summary['over_89']:,}"),
        hours=hours,
        report_hours=REPORT_HOURS,
        missing=", ".join(summary["missing_tables"]) or "none",
    )

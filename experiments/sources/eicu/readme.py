"""The README of a converted eICU: source, terms, what was done, what to beware of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.sources.terms import Terms, read_terms

_TEXT = """# {name}, converted to MEDS 0.4 by ehrfusion

{counts}

## Source and terms
{attribution}
Licence: {licence}. {terms}

## Changes made here
- One subject a patient (`uniquepid`); subject_id 1, 2, ... in the order of `uniquepid`, which is not
  kept. `site` is `hospitalid`.
- Times: the release has minutes from unit admission and no dates. Within a hospital stay all unit stays
  and events keep their true distances. Hospital stays of a patient are placed on a calendar made up for
  the purpose: the first starts on 1 January of the year of its discharge, the next at the earliest 60
  days after the one before. **Distances between hospital stays are not real**, nor are months and days.
- Order of hospital stays: by year of discharge, then age. Stays alike in both have no known order; only
  one of them is predicted for, chosen without looking at its outcome, and the others lie behind it on
  the calendar, so that nothing from what may be a patient's future is before a prediction. Where that
  one ended in death, events follow the death.
- An event counts from when it was known: the entry, where the table has one (admissionDx, allergy,
  pastHistory, note, nurseCharting; a physical examination bears the time of its note; a drug that of
  its order; a laboratory value its last revision). Values of a monitored hour are one mean,
  known with the hour's last value; the hourly values of YAIB at the hour's end. First-day worst values
  (apacheApsVar) count from 24 h after unit admission; -1 is missing.
- Events before the hospital stay are set to its first moment; events later than 30 days after it are
  left out ({late} of {events}).
- Age is that of the first hospital stay in years; over 89 is 90.
- Notes are composed of form entries (`NOTE//...`, one a kind and time of entry) and of the phrases of
  past history (`NOTE//past_history`). They are short and not narrative.
- Codes: `ICD9CM//`, `ICD10CM//`, `ICD9PROC//` from `icd9code`; `DX//`, `TREATMENT//`, `ADMISSION_DX//`,
  `HISTORY//`, `EXAM//` are the paths of the release; `DRUG//HICL//n` or, without a number,
  `DRUG//NAME//...` (`HOME_DRUG//`: before admission); `INFUSION//drug (unit)`; `ALLERGY//`; `APACHE//`;
  `LAB//` and `VITAL//` with units.
- Graph: `parent_codes` by path, ICD category, block and chapter, and groups of measurements;
  `graph/edges.parquet` has `coded_as` from diagnosis path to the ICD codes the release writes beside
  it.
- Not used: apachePatientResult and apachePredVar (they hold outcomes and predictions), microLab (no
  time of result), customLab, intakeOutput, nurseAssessment, nurseCare, respiratoryCare,
  respiratoryCharting, carePlan tables, and the columns on what was so at discharge
  (`activeupondischarge`, `dischargeweight`, stop times).
- Outcomes are events after the stay: `UNIT_DISCHARGE//`, `HOSPITAL_DISCHARGE//`, `MEDS_DEATH`.

## Labels
One prediction a unit stay, 24 hours after unit admission, for stays that last longer.
`hospital_mortality`: the hospital stay ended in death (`hospitaldischargestatus`).
`unit_stay_over_3_days`: the unit stay lasts more than 72 hours. `cohort.json` says who was left out and
why; nobody is for lacking a modality.

## Beware
- `hospitaldischargestatus` and `unitdischargestatus` contradict each other in a few stays; the
  hospital's is taken.
- Diagnoses and notes run over the whole stay; a reader must cut by time.
- A patient's splits follow the patient; a few patients were in two hospitals, and their site is the
  first.
- Tables not found in the source: {missing}.
"""
_ATTRIBUTION = (
    "Pollard T, Johnson A, Raffa J, Celi LA, Mark R, Badawi O. The eICU Collaborative Research Database,\n"
    "a freely available multi-center database for critical care research. Scientific Data 5:180178 (2018)."
)
_DEMO = (
    "\nJohnson A, Pollard T, Badawi O, Raffa J. eICU Collaborative Research Database Demo (version 2.0.1),\n"
    "PhysioNet, 2021, doi:10.13026/4mxk-na84."
)
_HOURLY = (
    "\nHourly values: van de Water R et al. Yet Another ICU Benchmark, ICLR 2024, made with ricu from the\n"
    "same database."
)


def licence(src: Path) -> Terms:
    """Read the terms from the licence file of the source."""
    return read_terms(src, "eICU Collaborative Research Database", "2.0", "2.0")


def readme(terms: Terms, summary: dict[str, Any]) -> str:
    """Return the README of a converted folder."""
    counts = (
        f"{summary['patients']:,} patients, {summary['hospital_stays']:,} hospital stays, "
        f"{summary['unit_stays']:,} unit stays, {summary['hospitals']:,} hospitals, "
        f"{summary['events']:,} events."
    )
    attribution = _ATTRIBUTION + (_DEMO if terms.demo else "") + (_HOURLY if "yaib" in summary["tables"] else "")
    return _TEXT.format(
        name=terms.name,
        counts=counts,
        attribution=attribution,
        licence=terms.licence,
        terms=terms.text,
        late=f"{summary['events_out_of_time']:,}",
        events=f"{summary['events']:,}",
        missing=", ".join(summary["missing_tables"]) or "none",
    )

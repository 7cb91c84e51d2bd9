"""The README of a converted COVID-19 image data collection."""

from __future__ import annotations

import polars as pl

_TEXT = """# COVID-19 image data collection, converted to MEDS 0.4 by ehrfusion

{patients} patients, {images} chest X-rays, each with a clinical note.

## Source and terms
Cohen JP, Morrison P, Dao L, Roth K, Duong TQ, Ghassemi M. COVID-19 Image Data Collection: Prospective
Predictions Are the Future, 2020, github.com/ieee8023/covid-chestxray-dataset. Licences are per image:
`attribution.csv` has licence, doi, url and credit of each ({licences}). CC BY-NC-SA: not for commercial
use, derivatives under the same licence. Pass the folder on only with `attribution.csv`.

## Changes made here
- One subject a patient (`patientid`, renumbered and not kept). X-rays only.
- Times: `offset` is in days since symptoms or admission, so the days of a patient keep their distances
  on a calendar made up for the purpose (day 0 is 1 January 2020). A row without offset gets the
  patient's last known one, or 0: never too early.
- An image, its note and its measurements become known together.
- Inputs: images, notes, sex, age, temperature, oxygen saturation, leukocyte, neutrophil and lymphocyte
  counts. Not inputs: finding, survival, intubation, intensive care, oxygen supplement, date, location,
  folder, doi, url, licence.
- Credits (`Case courtesy of ...`) are not part of a note: they name the source, and source and label go
  together.
- {mask}

## Label
`covid19`: COVID-19 (with or without ARDS) against another pneumonia; one prediction a patient, on the
day of the first image, from what was there on that day. `cohort.json` says who was left out and why.
Splits are by patient, apart for each label.

## Beware
- **Source and label go together.** COVID-19 comes mostly from Radiopaedia and papers of 2020, the
  others mostly from Eurorad and older teaching cases: width, contrast, markings and the style of the
  note tell the source. A high score here does not show that a model knows pneumonia.
- Few patients: intervals are wide. Findings are those of the people who sent the cases in, not of one
  protocol.
- What only hints at the finding stays in the notes: drugs (hydroxychloroquine, acyclovir), HIV, travel,
  contacts.
"""
_MASKED = (
    "Notes: names of findings (also ARDS), germs and viruses are `[finding]`, and so are the tests that prove\n"
    "  them (PCR, swab, urinary antigen) and their result. `pneumonia` stays: both sides have it."
)
_PLAIN = "Notes are not masked: **they name the finding**, so the label stands in the input."


def readme(table: pl.DataFrame, mask_finding: bool) -> str:
    """Return the README of a converted folder."""
    counts = table["license"].fill_null("licence not given").value_counts(sort=True)
    return _TEXT.format(
        patients=table["subject_id"].n_unique(),
        images=table.height,
        licences=", ".join(f"{name}: {count}" for name, count in counts.iter_rows()),
        mask=_MASKED if mask_finding else _PLAIN,
    )

"""Template notes: what the note cause looks like in words, among sentences that mean nothing for the label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[a-z]+")
_SHOWS = (
    (
        "Breathing comfortably on room air.",
        "No increased work of breathing.",
        "Speaks in full sentences, not distressed.",
        "No use of accessory muscles.",
        "Slept flat without breathlessness.",
        "Denies worsening dyspnoea.",
    ),
    (
        "Increased work of breathing since this morning.",
        "Speaks in short phrases, distressed.",
        "Uses accessory muscles at rest.",
        "Could not sleep flat because of breathlessness.",
        "Reports worsening dyspnoea.",
        "Tiring, needs more support than yesterday.",
    ),
)
_FILLER = (
    "Alert and oriented.",
    "Abdomen soft, not tender.",
    "No new rash.",
    "Appetite fair, bowel sounds present.",
    "Family at bedside, updated.",
    "Intravenous access in place.",
    "Pain controlled with paracetamol.",
    "No fever overnight.",
    "Low-grade fever overnight, settled.",
    "Urine output adequate.",
    "Mobilises with one person.",
    "Continue home medication.",
    "Diet as tolerated.",
    "Electrolytes to be repeated in the morning.",
    "Physiotherapy involved.",
    "Skin intact, pressure areas checked.",
    "Denies chest pain.",
    "Reports chest pain on movement only.",
    "No allergies known.",
    "Code status discussed.",
)
_PLAN = ("Plan: observe.", "Plan: review with results.", "Plan: continue treatment.", "Plan: discuss on ward round.")
_RADIOLOGY = (
    "Portable chest radiograph. Lines and tubes as described. No pneumothorax.",
    "Chest radiograph, one view. Heart size at the upper limit. Bones unremarkable.",
    "Compared with the previous examination no relevant change of the bony thorax.",
)


def telling_words() -> frozenset[str]:
    """Return the words that only notes with, or only notes without, the cause have."""
    without, with_cause = ({word for line in lines for word in _WORD.findall(line.lower())} for lines in _SHOWS)
    said = {word for line in (*_FILLER, *_PLAN, *_RADIOLOGY) for word in _WORD.findall(line.lower())}
    return frozenset((without ^ with_cause) - said)


def clinical_note(cause: int, opening: str, rng: np.random.Generator, clutter: float = 1.0) -> str:
    """Write an admission or progress note that shows the cause twice, in two wordings, among sentences that do not."""
    shown = [_SHOWS[cause][i] for i in rng.choice(len(_SHOWS[cause]), 2, replace=False)]
    count = round(clutter * int(rng.integers(4, 9)))
    filler = [_FILLER[i] for i in rng.choice(len(_FILLER), count, replace=False)]
    return " ".join([opening, *_shuffled(shown + filler, rng), _PLAN[int(rng.integers(len(_PLAN)))]])


def plain_note(opening: str, rng: np.random.Generator) -> str:
    """Write a note that shows nothing."""
    filler = [_FILLER[i] for i in rng.choice(len(_FILLER), int(rng.integers(4, 9)), replace=False)]
    return " ".join([opening, *filler])


def radiology_report(rng: np.random.Generator) -> str:
    """Write a report that does not describe the image, so that the image is worth having."""
    return _RADIOLOGY[int(rng.integers(len(_RADIOLOGY)))]


def discharge_summary(outcome: bool) -> str:
    """Write the trap: a note from after the prediction that states the outcome."""
    end = "The patient deteriorated and died." if outcome else "The patient recovered and was discharged home."
    return f"Discharge summary. {end}"


def _shuffled(sentences: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [sentences[i] for i in rng.permutation(len(sentences))]

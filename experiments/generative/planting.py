"""Errors planted in copies of records, so that it is known which records are wrong: units, and swapped modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.records import Record

AGE = "AGE"  # reckoned from the date of birth, so never in another unit


def unit_error(record: Record, factor: float, rng: np.random.Generator) -> Record | None:
    """Multiply one value of a record by a factor; None where it has no value other than 0."""
    values = record.codes.values
    wrong = [i for i, code in enumerate(record.codes.codes) if code != AGE and np.isfinite(values[i]) and values[i]]
    if not wrong:
        return None
    changed = values.copy()
    changed[rng.choice(wrong)] *= factor
    return replace(record, codes=record.codes._replace(values=changed))


def swapped(records: Sequence[Record], modality: str, rng: np.random.Generator) -> list[Record | None]:
    """Give each record the notes or images of another one that has some; None for those without, or if nobody else has.

    Args:
        modality: "notes" or "images".
    """
    having = [i for i, record in enumerate(records) if getattr(record, modality)]
    found: list[Record | None] = [None] * len(records)
    if len(having) < 2:
        return found
    order = rng.permutation(having)
    for mine, other in zip(order, np.roll(order, 1), strict=True):
        found[mine] = replace(records[mine], **{modality: getattr(records[other], modality)})
    return found


def plant(records: Sequence[Record], kind: str, rng: np.random.Generator) -> list[Record | None]:
    """Return records with an error of a kind of `KINDS`, None for those that cannot have it."""
    if kind.startswith("x"):
        return [unit_error(record, float(kind[1:]), rng) for record in records]
    return swapped(records, kind, rng)


KINDS = {
    "x10": "a value times 10",
    "x100": "a value times 100",
    "notes": "another's notes",
    "images": "another's images",
}

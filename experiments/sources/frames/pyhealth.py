"""PyHealth's samples as a DataFrame with a patient a row, and back; PyHealth is not imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from experiments.sources.frames.columns import Columns
from experiments.sources.frames.records import is_missing
from experiments.sources.frames.samples import Samples, check_fields, framed, given_labels, labels_of, rows_of, taken
from fusion.component import UsageError


def from_pyhealth(
    samples: Iterable[Mapping[str, Any]],
    *,
    label: str | None = "label",
    codes: Mapping[str, str] | Sequence[str] = (),
    notes: Sequence[str] = (),
    images: Sequence[str] = (),
    measurements: Sequence[str] = (),
) -> Samples:
    """Return PyHealth samples, as a task makes them before they are numbered, as a DataFrame.

    Args:
        codes: fields of codes, or what is put before the codes of each: `{"conditions": "ICD10CM//"}` makes them codes
            that ontologies know; without, it is the field's name. Codes in visits, a list of lists, have no times in
            PyHealth: they are put a day apart, the last visit at the prediction.

    Examples:
        >>> found = from_pyhealth(
        ...     [{"patient_id": "p", "conditions": [["I10"], ["I50"]], "label": 1}], codes={"conditions": "ICD10CM//"}
        ... )
        >>> found.X["codes"][0].struct.field("code").to_list(), found.X["codes"][0].struct.field("days").to_list()
        (['ICD10CM//I10', 'ICD10CM//I50'], [1.0, 0.0])

    Raises:
        UsageError: a field is in no sample, or holds something else; with its row and name.
    """
    rows = rows_of(samples)
    before = dict(codes) if isinstance(codes, Mapping) else {name: f"{name}//" for name in codes}
    check_fields(rows, [*before, *notes, *images, *measurements, *([label] if label else [])])
    patients = [row.get("patient_id") for row in rows]
    table = {name: [_visits(row.get(name), before[name], name, i) for i, row in enumerate(rows)] for name in before}
    table |= {name: [row.get(name) for row in rows] for name in (*notes, *images, *measurements)}
    chosen = {"codes": list(before), "notes": list(notes), "images": list(images), "measurements": list(measurements)}
    whose = None if any(each is None for each in patients) else np.array([str(each) for each in patients])
    return Samples(framed(table, chosen, len(rows)), labels_of(rows, label), whose)


def to_pyhealth(
    X: Any,  # noqa: N803
    y: ArrayLike | None = None,
    *,
    columns: Columns | None = None,
    label: str = "label",
    patients: Sequence[Any] | None = None,
) -> list[dict[str, Any]]:
    """Return a DataFrame as PyHealth samples: dicts with `patient_id`, `visit_id` and a field a modality.

    Codes of one time are a visit, oldest first; their values and the times of notes are left out, as PyHealth's
    sequences have none. A missing modality is an empty list, a missing measurement None.
    """
    found = []
    for i, (record, numbers) in enumerate(taken(X, columns)):
        events = zip(record.codes.codes, record.codes.days.tolist(), strict=True)
        visits = [[code for code, _ in each] for _, each in groupby(events, key=lambda event: event[1])]
        sample = {"patient_id": str(i if patients is None else patients[i]), "visit_id": str(i), "codes": visits}
        sample |= {"notes": [note.text for note in record.notes], "images": [str(each.path) for each in record.images]}
        found.append(sample | numbers)
    return [sample | each for sample, each in zip(found, given_labels(y, label, len(found)), strict=True)]


def _visits(cell: Any, before: str, name: str, row: int) -> list[tuple[str, float]] | None:
    """Return the codes of a field with the days before the last visit."""
    if is_missing(cell):
        return None
    visits = [cell] if isinstance(cell, str) else list(cell)
    if not any(isinstance(visit, list | tuple) for visit in visits):
        visits = [visits]
    if not all(isinstance(visit, list | tuple) and all(isinstance(code, str) for code in visit) for visit in visits):
        raise UsageError(f"row {row}: field '{name}': expected codes, or visits that are lists of codes, as texts")
    return [(before + code, float(len(visits) - 1 - i)) for i, visit in enumerate(visits) for code in visit if code]

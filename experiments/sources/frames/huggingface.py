"""Hugging Face's datasets as a DataFrame with a patient a row, and back; `datasets` is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from experiments.sources.frames.columns import Columns, columns_by_modality
from experiments.sources.frames.samples import (
    Samples,
    check_fields,
    framed,
    from_records,
    given_labels,
    labels_of,
    rows_of,
    taken,
)
from fusion.component import UsageError


def from_huggingface(
    dataset: Any,
    *,
    label: str | None = "label",
    columns: Columns | None = None,
    patient: str | None = None,
) -> Samples:
    """Return a Hugging Face dataset (one split), or any rows that are mappings, as a DataFrame.

    Args:
        columns: the columns of codes, notes, images and measurements, as the estimator takes them.
        patient: the column that says whose a row is.

    Examples:
        >>> found = from_huggingface([{"codes": ["I50"], "notes": "a cough", "age": 70, "label": 1}])
        >>> found.X.columns, found.y.tolist()
        (['codes', 'notes', 'age'], [1])

    Raises:
        UsageError: it is several splits, a column is missing or holds something else; with row and column.
    """
    if isinstance(dataset, Mapping):
        raise UsageError(f"expected the rows of one split, as dataset['train']; got several: {', '.join(dataset)}")
    rows = rows_of(dataset)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in (label, patient)))
    check_fields(rows, [each for each in (label, patient) if each is not None])
    chosen = columns_by_modality(names, columns)
    table = {name: [_together(row.get(name)) for row in rows] for each in chosen.values() for name in each}
    y = labels_of(rows, label)
    kinds = getattr((getattr(dataset, "features", None) or {}).get(label), "names", None)
    if kinds and y is not None:
        y = np.array(kinds)[y.astype(int)]
    return Samples(framed(table, chosen, len(rows)), y, None if patient is None else labels_of(rows, patient))


def to_huggingface(
    X: Any,  # noqa: N803
    y: ArrayLike | None = None,
    *,
    columns: Columns | None = None,
    label: str = "label",
) -> dict[str, list[Any]]:
    """Return a DataFrame as the columns that `datasets.Dataset.from_dict` takes; nothing is lost on the way back."""
    columns = columns_by_modality(list(X.columns), columns)
    found_rows = taken(X, columns)
    frame = from_records([record for record, _ in found_rows], columns)
    found = {name: frame[name].to_list() for name in frame.columns}
    found |= {name: [numbers[name] for _, numbers in found_rows] for name in columns.get("measurements", [])}
    return found if y is None else found | {label: [each[label] for each in given_labels(y, label, len(found_rows))]}


def _together(cell: Any) -> Any:
    """Return mappings for a mapping of lists, as which `datasets` gives out a list of mappings."""
    if isinstance(cell, Mapping) and cell and all(isinstance(each, list) for each in cell.values()):
        return [dict(zip(cell, each, strict=True)) for each in zip(*cell.values(), strict=True)]
    return cell

"""Which column of a DataFrame is which modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fusion.component import UsageError, unknown

KINDS = ("codes", "notes", "images", "measurements")
Columns = Mapping[str, str | Sequence[str]]


def columns_by_modality(names: Sequence[str], given: Columns | None = None) -> dict[str, list[str]]:
    """Return the columns of each modality that has any.

    Where nothing is given, columns called `codes`, `notes` and `images` are what their name says, and every other is a
    measurement; otherwise only the columns that are given are read.

    Examples:
        >>> columns_by_modality(["age", "codes", "lactate"])
        {'codes': ['codes'], 'measurements': ['age', 'lactate']}
        >>> columns_by_modality(["id", "icd", "report"], {"codes": "icd", "notes": "report"})
        {'codes': ['icd'], 'notes': ['report']}

    Raises:
        UsageError: no such modality or column, a column in two of them, or two columns of one name.
    """
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two columns are called '{twice}'")
    if given is None:
        found = {kind: [kind] if kind in names else [] for kind in KINDS[:3]}
        found["measurements"] = [name for name in names if name not in KINDS[:3]]
    else:
        found = {kind: [each] if isinstance(each, str) else list(each) for kind, each in given.items()}
    every = [name for columns in found.values() for name in columns]
    for kind in found:
        if kind not in KINDS:
            raise unknown("kind of column", kind, KINDS, "columns")
    for name in every:
        if name not in names:
            raise unknown("column", name, names, "columns")
        if every.count(name) > 1:
            raise UsageError(f"columns: '{name}' is named twice")
    if not every:
        raise UsageError("columns: none is named; name at least one under " + ", ".join(KINDS))
    return {kind: columns for kind, columns in found.items() if columns}

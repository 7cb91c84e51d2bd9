"""Coded events as one row of a table: how often each code occurs, and its last, mean, least and greatest value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import Knowledge, Record

_STATISTICS = 4  # last, mean, least, greatest


class CountInputs(NamedTuple):
    """Feature rows of B patients; a statistic of values that a patient does not have is NaN.

    Shape:
        features (B, 1, F) float; mask (B, 1) bool.
    """

    features: Tensor
    mask: Tensor


@dataclass(frozen=True)
class CodeCounts:
    """The codes that are counted, and those of them whose values are summarised; raw, in the units of the record."""

    codes: tuple[str, ...]
    valued: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        min_count: int = 2,
        max_columns: int = 4000,
    ) -> Self:
        """Take the codes of at least `min_count` training records, the most frequent where columns run out.

        Raises:
            UsageError: `max_columns` is less than 1.
        """
        at_least("max_columns", max_columns, 1)
        counts: Counter[str] = Counter()
        valued: Counter[str] = Counter()
        for record in records:
            codes, values = np.asarray(record.codes.codes, object), record.codes.values
            counts.update(set(codes.tolist()))
            valued.update(set(codes[np.isfinite(values)].tolist()))
        kept, columns = [], 0
        for code, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
            width = 1 + _STATISTICS * (valued[code] >= min_count)
            if count >= min_count and columns + width <= max_columns:
                kept.append(code)
                columns += width
        return cls(tuple(sorted(kept)), tuple(sorted(code for code in kept if valued[code] >= min_count)))

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        return {code: i for i, code in enumerate(self.codes)}, {code: i for i, code in enumerate(self.valued)}

    @property
    def width(self) -> int:
        """How many features a patient has; at least one, so that a table can be built of nothing."""
        return max(1, len(self.codes) + _STATISTICS * len(self.valued))

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"features": (np.dtype(np.float32), (self.width,))}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Count a record's codes and summarise their values, oldest to newest."""
        if not len(record.codes.codes):
            return None
        counted, valued = self._places
        counts = np.zeros(len(self.codes), np.float32)
        found: dict[int, list[float]] = {}
        for code, value in zip(record.codes.codes, record.codes.values.tolist(), strict=True):
            if code in counted:
                counts[counted[code]] += 1
            if code in valued and np.isfinite(value):
                found.setdefault(valued[code], []).append(value)
        statistics = np.full((len(self.valued), _STATISTICS), np.nan, np.float32)
        for place, values in found.items():
            statistics[place] = values[-1], np.mean(values), min(values), max(values)
        row = np.concatenate([counts, statistics.ravel()]) if self.codes else np.zeros(1, np.float32)
        return {"features": row[None].astype(np.float32)}

    def collate(self, packed: Packed, rows: Tensor) -> CountInputs:
        """Gather rows (B,) into inputs."""
        columns, mask = packed.pad(rows)
        return CountInputs(columns["features"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"codes": list(self.codes), "valued": list(self.valued)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(tuple(data["codes"]), tuple(data["valued"]))

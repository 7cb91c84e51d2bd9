"""The vocabulary of coded events and the scale of their values, learned from training records."""

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
from encoders.records import CodeEvents, Knowledge, Record
from fusion.component import UsageError

UNKNOWN = 0
_SAMPLE = 2000  # values kept a code to learn its scale


class CodeInputs(NamedTuple):
    """Coded events of B patients, static facts first, then oldest to newest.

    Shape:
        codes (B, T) int64; days (B, T) float before the prediction; values (B, T) float, standardised, 0 where none;
        has_value (B, T) bool; mask (B, T) bool.
    """

    codes: Tensor
    days: Tensor
    values: Tensor
    has_value: Tensor
    mask: Tensor


@dataclass(frozen=True)
class CodeVocabulary:
    """Numbers codes (0 is any code unseen in training) and standardises values by their code's median and spread."""

    codes: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    max_events: int = 256
    bin_hours: float | None = None

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        max_events: int = 256,
        min_count: int = 2,
        bin_hours: float | None = None,
    ) -> Self:
        """Learn which codes at least `min_count` training records have, and the scale of their values.

        Raises:
            UsageError: `max_events` is less than 1, or bins have no length.
        """
        at_least("max_events", max_events, 1)
        if bin_hours is not None and not bin_hours > 0:
            raise UsageError(f"bin_hours must be more than 0; got {bin_hours}")
        counts: Counter[str] = Counter()
        samples: dict[str, list[float]] = {}
        for record in records:
            events = record.codes
            counts.update(set(events.codes))
            for place in np.flatnonzero(np.isfinite(events.values)).tolist():
                kept = samples.setdefault(events.codes[place], [])
                if len(kept) < _SAMPLE:
                    kept.append(float(events.values[place]))
        codes = tuple(sorted(code for code, count in counts.items() if count >= min_count))
        scales = [_scale(samples.get(code, [])) for code in codes]
        return cls(codes, tuple(c for c, _ in scales), tuple(s for _, s in scales), max_events, bin_hours)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each known code."""
        return {code: i + 1 for i, code in enumerate(self.codes)}

    @property
    def size(self) -> int:
        """How many rows an embedding table needs."""
        return len(self.codes) + 1

    @cached_property
    def _scales(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.array([0.0, *self.center], np.float32), np.array([1.0, *self.scale], np.float32)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        kinds = {"codes": np.int32, "days": np.float32, "values": np.float32, "has_value": np.bool_}
        return {name: (np.dtype(kind), ()) for name, kind in kinds.items()}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Number and standardise a record's events, the most recent ones where there are too many."""
        if not len(record.codes.codes):
            return None
        numbers, days, raw = self.select(record.codes)
        center, scale = self._scales
        has_value = np.isfinite(raw) & (numbers != UNKNOWN)
        standard = (np.where(has_value, raw, 0.0) - center[numbers]) / scale[numbers]
        values = np.where(has_value, np.clip(standard, -5.0, 5.0), 0.0).astype(np.float32)
        return {"codes": numbers, "days": days.astype(np.float32), "values": values, "has_value": has_value}

    def select(self, events: CodeEvents) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Number events and choose among them. Shape: numbers, days and raw values, each (N,)."""
        numbers = np.array([self.number.get(code, UNKNOWN) for code in events.codes], np.int32)
        kept = self._kept(events, numbers)
        return numbers[kept], events.days[kept], events.values[kept]

    def _kept(self, events: CodeEvents, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """Choose events: the last of each code a bin, then the static facts and the most recent of the rest."""
        places = np.arange(len(numbers))
        if self.bin_hours is not None:
            bins = np.floor(events.days * 24.0 / self.bin_hours).astype(np.int64)
            keys = np.stack([bins, numbers.astype(np.int64)], axis=1)[::-1]
            _, first = np.unique(keys, axis=0, return_index=True)
            places = np.sort(len(numbers) - 1 - first)
        if len(places) <= self.max_events:
            return places
        static = places[events.days[places] == 0][: self.max_events // 2]
        rest = places[~np.isin(places, static)]
        return np.sort(np.concatenate([static, rest[-(self.max_events - len(static)) :]]))

    def collate(self, packed: Packed, rows: Tensor) -> CodeInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return CodeInputs(columns["codes"].long(), columns["days"], columns["values"], columns["has_value"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "codes": list(self.codes),
            "center": list(self.center),
            "scale": list(self.scale),
            "max_events": self.max_events,
            "bin_hours": self.bin_hours,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        lists = {name: tuple(data[name]) for name in ("codes", "center", "scale")}
        return cls(**lists, max_events=data["max_events"], bin_hours=data["bin_hours"])


def _scale(values: list[float]) -> tuple[float, float]:
    """Median and spread (interquartile range / 1.349, as of a normal distribution) of a code's values."""
    if not values:
        return 0.0, 1.0
    low, middle, high = np.percentile(values, [25, 50, 75])
    spread = (high - low) / 1.349 or float(np.std(values))
    return float(middle), float(spread) if np.isfinite(spread) and spread > 0 else 1.0

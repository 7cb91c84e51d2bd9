"""A record as one sequence of tokens: parts of codes by their hierarchy, quantiles of values, lengths of gaps."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import CodeEvents, Knowledge, Record

UNKNOWN = 0
_HOUR, _MONTH = 1 / 24, 30.0
INTERVALS: tuple[tuple[str, float], ...] = (
    ("5m-15m", _HOUR / 12), ("15m-45m", _HOUR / 4), ("45m-1h15m", _HOUR * 3 / 4), ("1h15m-2h", _HOUR * 5 / 4),
    ("2h-3h", 2 * _HOUR), ("3h-5h", 3 * _HOUR), ("5h-8h", 5 * _HOUR), ("8h-12h", 8 * _HOUR), ("12h-18h", 12 * _HOUR),
    ("18h-1d", 18 * _HOUR), ("1d-2d", 1.0), ("2d-4d", 2.0), ("4d-7d", 4.0), ("7d-12d", 7.0), ("12d-20d", 12.0),
    ("20d-30d", 20.0), ("30d-2mt", 30.0), ("2mt-6mt", 2 * _MONTH), ("6mt", 6 * _MONTH),
)  # fmt: skip
"""Names of gaps and the days from which each is one; below the first there is no token, the last one is repeated."""
_STARTS = [start for _, start in INTERVALS]
_SAMPLE = 2000  # values kept a code to learn its quantiles


class TimelineInputs(NamedTuple):
    """Tokens of B patients, oldest first, each patient a row: none sees another's. Shape: ids (B, T), mask (B, T)."""

    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Timeline:
    """Numbers tokens (0 is any that training lacks); quantiles of values are those of the training patients.

    Reference:
        Renc et al., Zero Shot Health Trajectory Prediction Using Transformer (ETHOS), 2024 (its tokens; here codes are
        cut by their spelling, and age is left to the static facts).
    """

    tokens: tuple[str, ...]
    breaks: Mapping[str, tuple[float, ...]]
    max_tokens: int = 256

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        max_tokens: int = 256,
        min_count: int = 2,
        quantiles: int = 10,
    ) -> Self:
        """Learn the quantiles of each code's values, and which tokens at least `min_count` training records have.

        Raises:
            UsageError: `max_tokens` or `quantiles` is less than 2.
        """
        at_least("max_tokens", max_tokens, 2)
        at_least("quantiles", quantiles, 2)
        samples: dict[str, list[float]] = {}
        counts: Counter[str] = Counter()
        for record in records:
            events = record.codes
            counts.update({part for code in set(events.codes) for part in parts(str(code))})
            for place in np.flatnonzero(np.isfinite(events.values)).tolist():
                kept = samples.setdefault(str(events.codes[place]), [])
                if len(kept) < _SAMPLE:
                    kept.append(float(events.values[place]))
        at = np.arange(1, quantiles) / quantiles
        breaks = {code: tuple(np.quantile(values, at).tolist()) for code, values in sorted(samples.items())}
        known = sorted(name for name, count in counts.items() if count >= min_count)
        values = [f"Q{i + 1}" for i in range(quantiles)]
        return cls((*(name for name, _ in INTERVALS), *values, *known), breaks, max_tokens)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each known token."""
        return {name: i + 1 for i, name in enumerate(self.tokens)}

    @property
    def size(self) -> int:
        """How many rows an embedding table needs."""
        return len(self.tokens) + 1

    @property
    def codes(self) -> tuple[str, ...]:
        """Tokens that come from codes."""
        return tuple(name for name in self.tokens if "//" in name)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"ids": (np.dtype(np.int32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Number a record's tokens; where there are too many, static facts and the latest whole events are kept."""
        if not len(record.codes.codes):
            return None
        static: list[list[int]] = []
        dated: list[list[int]] = []
        for fixed, tokens in self.events(self._needed(record.codes)):
            (static if fixed else dated).append([self.number.get(each, UNKNOWN) for each in tokens])
        ids = [each for numbers in static for each in numbers][: self.max_tokens // 2]
        recent: list[list[int]] = []
        room = self.max_tokens - len(ids)
        for numbers in reversed(dated):
            room -= len(numbers)
            if room < 0:
                break
            recent.append(numbers)
        ids += [each for numbers in reversed(recent) for each in numbers]
        return {"ids": np.array(ids or dated[-1][-self.max_tokens :], np.int32)}

    def _needed(self, events: CodeEvents) -> CodeEvents:
        """Return the static facts and latest events that have room, one more for the gap after it; each has a token."""
        count = len(events.codes)
        fixed = int(np.argmax(events.days != 0)) if (events.days != 0).any() else count
        start = max(fixed, count - self.max_tokens - 1)
        places = [*range(min(fixed, self.max_tokens)), *range(start, count)]
        if len(places) == count:
            return events
        return CodeEvents([events.codes[place] for place in places], events.days[places], events.values[places])

    def events(self, events: CodeEvents) -> Iterator[tuple[bool, list[str]]]:
        """Yield of each event whether it is a static fact, and its tokens: the gap before it, its code, its value."""
        before: float | None = None
        static = True
        for code, days, value in zip(events.codes, events.days.tolist(), events.values.tolist(), strict=True):
            static = static and days == 0
            tokens = [] if static or before is None else gap(before - days)
            if not static:
                before = days
            tokens += parts(str(code))
            if np.isfinite(value) and code in self.breaks:
                tokens.append(f"Q{1 + bisect_left(self.breaks[str(code)], value)}")
            yield static, tokens

    def collate(self, packed: Packed, rows: Tensor) -> TimelineInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return TimelineInputs(columns["ids"].long(), mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        breaks = {code: list(each) for code, each in self.breaks.items()}
        return {"tokens": list(self.tokens), "breaks": breaks, "max_tokens": self.max_tokens}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        breaks = {code: tuple(each) for code, each in data["breaks"].items()}
        return cls(tuple(data["tokens"]), breaks, data["max_tokens"])


def parts(code: str) -> list[str]:
    """Cut a code into tokens along its hierarchy, so that a rare leaf shares the tokens above it.

    Examples:
        >>> parts("ICD10CM//E11.3211")
        ['ICD10CM//E11', 'ICD10CM//3-6//321', 'ICD10CM//SFX//1']
        >>> parts("ATC//A02BC01")
        ['ATC//A02', 'ATC//4//B', 'ATC//SFX//C01']
        >>> parts("LAB//sodium")
        ['LAB//sodium']
    """
    vocabulary, _, rest = code.partition("//")
    rest = rest.replace(".", "")
    if vocabulary in ("ICD10CM", "ICD9CM"):
        cuts = [("", rest[:3]), ("3-6//", rest[3:6]), ("SFX//", rest[6:])]
    elif vocabulary == "ATC":
        cuts = [("", rest[:3]), ("4//", rest[3:4]), ("SFX//", rest[4:])]
    elif vocabulary == "ICD10PCS":
        cuts = [("", each) for each in rest]
    else:
        return [code]
    return [f"{vocabulary}//{level}{text}" for level, text in cuts if text] or [code]


def gap(days: float) -> list[str]:
    """Return the tokens of a gap: none below five minutes, half a year as often as it fits.

    Examples:
        >>> gap(0.001), gap(1.5), gap(370.0)
        ([], ['1d-2d'], ['6mt', '6mt'])
    """
    place = bisect_left(_STARTS, days + 1e-9) - 1
    if place < 0:
        return []
    name, start = INTERVALS[place]
    return [name] * max(1, round(days / start)) if place == len(INTERVALS) - 1 else [name]

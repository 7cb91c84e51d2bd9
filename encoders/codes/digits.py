"""Values digit by digit: a number is the sum of its digits' embeddings, each with its decimal place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.codes.vocabulary import CodeVocabulary
from encoders.packed import Packed
from encoders.records import Knowledge, Record
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens

_WHOLE, _PARTS = 6, 3  # decimal places before and after the point
_BLANK = 10  # no digit here: no value, or a leading zero
PLACES = 1 + _WHOLE + _PARTS  # the sign first: 0 plus, 1 minus


class DigitInputs(NamedTuple):
    """Coded events of B patients with their values as digits.

    Shape:
        codes (B, T) int64; days (B, T) float; digits (B, T, P) int64, 10 where there is none; mask (B, T) bool.
    """

    codes: Tensor
    days: Tensor
    digits: Tensor
    mask: Tensor


@dataclass(frozen=True)
class DigitCodes:
    """Numbers codes as `CodeVocabulary` does and writes values out as digits; no scale of a code is needed."""

    vocabulary: CodeVocabulary

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,
        *,
        max_events: int = 256,
        min_count: int = 2,
        bin_hours: float | None = None,
    ) -> Self:
        """Learn which codes at least `min_count` training records have."""
        return cls(
            CodeVocabulary.fit(records, knowledge, max_events=max_events, min_count=min_count, bin_hours=bin_hours)
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that are known, by number from 1."""
        return self.vocabulary.codes

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        plain: tuple[int, ...] = ()
        return {
            "codes": (np.dtype(np.int32), plain),
            "days": (np.dtype(np.float32), plain),
            "digits": (np.dtype(np.int8), (PLACES,)),
        }

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Number a record's events and write out their values."""
        if not len(record.codes.codes):
            return None
        numbers, days, raw = self.vocabulary.select(record.codes)
        return {"codes": numbers, "days": days.astype(np.float32), "digits": write_digits(raw)}

    def collate(self, packed: Packed, rows: Tensor) -> DigitInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return DigitInputs(columns["codes"].long(), columns["days"], columns["digits"].long(), mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return self.vocabulary.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(CodeVocabulary.from_dict(data))


def write_digits(values: NDArray[np.float32]) -> NDArray[np.int8]:
    """Write numbers as sign and digits, rounded to a thousandth, at most 999,999.999; blank where there is no number.

    Shape:
        (N,) float -> (N, P) int8 of 0 to 10.
    """
    real = np.isfinite(values)
    whole = np.round(np.abs(np.where(real, values, 0.0).astype(np.float64)) * 10**_PARTS)
    whole = np.minimum(whole, 10.0 ** (_WHOLE + _PARTS) - 1).astype(np.int64)
    powers = 10 ** np.arange(_WHOLE + _PARTS - 1, -1, -1, dtype=np.int64)
    digits = whole[:, None] // powers % 10
    leading = (whole[:, None] < powers) & (np.arange(_WHOLE + _PARTS) < _WHOLE - 1)
    digits = np.where(leading, _BLANK, digits)
    sign = (np.where(real, values, 0.0) < 0).astype(np.int64)
    written = np.concatenate([sign[:, None], digits], axis=1)
    return np.where(real[:, None], written, _BLANK).astype(np.int8)


class DigitTransformer(nn.Module):
    """Self-attention among events whose values are sums of digit embeddings, one table a decimal place.

    No value needs a scale learned from data, so units and codes never seen in training still read as numbers.

    Shape:
        DigitInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Hur et al., GenHPF: General Healthcare Predictive Framework with Multi-task Multi-source Learning, 2024
        (digit-place embedding; codes here by number, not by text).
    """

    preprocessor: ClassVar[type] = DigitCodes
    place: Tensor

    def __init__(
        self,
        preprocessor: DigitCodes,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.code = nn.Embedding(preprocessor.vocabulary.size, dim)
        self.digit = nn.Embedding(PLACES * (_BLANK + 1), dim)
        nn.init.normal_(self.code.weight, std=0.3)
        nn.init.normal_(self.digit.weight, std=0.3 / PLACES**0.5)
        self.register_buffer("place", torch.arange(PLACES) * (_BLANK + 1), persistent=False)
        # what a number means hangs on its code: a product tells glucose 90 from pulse 90
        self.meaning = nn.Linear(dim, dim)
        self.time, self.drop = TimeEncoding(dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: DigitInputs) -> Tokens:
        """Encode each patient's events."""
        code = self.code(inputs.codes)
        number = self.digit(inputs.digits + self.place).sum(2)
        values = self.drop(code + number * (1 + self.meaning(code)) + self.time(inputs.days, inputs.mask))
        for block in self.blocks:
            values = block(values, inputs.mask)
        return Tokens(self.norm(values), inputs.mask)

"""Packed rows: all patients' items of a modality end to end, with offsets; gathered into padded batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Columns of items of all rows, one row's items side by side (possibly memory-mapped).

    Shape:
        columns: each (N, ...), N items of all rows. offsets: (R + 1,) int64; row r owns items offsets[r]:offsets[r+1].
    """

    columns: Mapping[str, Tensor]
    offsets: Tensor

    def lengths(self, rows: Tensor) -> Tensor:
        """Return how many items each row has (0 for row -1). Shape: (B,) int64 -> (B,) int64."""
        counts = self.offsets[rows + 1] - self.offsets[rows.clamp(min=0)]
        return counts.masked_fill(rows < 0, 0)

    def pad(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Gather rows into padded columns and a mask; row -1 is an absent patient.

        Shape:
            rows (B,) int64 -> columns each (B, T, ...), mask (B, T) bool; T is at least 1; padding is zero.
        """
        lengths = self.lengths(rows)
        positions = torch.arange(max(1, int(lengths.max()) if len(rows) else 1))
        mask = positions < lengths.unsqueeze(1)
        index = (self.offsets[rows.clamp(min=0)].unsqueeze(1) + positions)[mask]
        padded = {}
        for name, column in self.columns.items():
            out = column.new_zeros(len(rows), len(positions), *column.shape[1:])
            out[mask] = column[index]
            padded[name] = out
        return padded, mask

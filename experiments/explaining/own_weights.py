"""How much a fusion lets each modality count, patient by patient, for fusions that give each a view of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from experiments.explaining.tally import LEAST
from experiments.section import Table
from experiments.whole import whole_file
from fusion import FusionModel
from fusion.tokens import present

Array = NDArray[Any]


@dataclass
class OwnWeights:
    """The weights of patients as they come by; what a patient lacks has none (NaN).

    Shape:
        parts: (B, M) each; rows: (B,) each, their places in the table of predictions.
    """

    modalities: tuple[str, ...]
    possible: bool = True
    parts: list[Array] = field(default_factory=list)
    rows: list[Array] = field(default_factory=list)

    @torch.no_grad()
    def add(self, model: FusionModel, inputs: Mapping[str, Any], rows: Array) -> None:
        """Ask a batch for its weights; a fusion with one view has none."""
        if not self.possible:
            return
        weights = model.fuse(inputs).weights
        self.possible = 1 < len(self.modalities) == weights.shape[1]
        if self.possible:
            has = torch.stack([present(inputs[name].mask) for name in self.modalities], dim=1)
            self.parts.append(weights.masked_fill(~has, np.nan).cpu().numpy())
            self.rows.append(rows)

    def values(self) -> Array:
        """Return all weights in the order of the predictions. Shape: (N, M)."""
        found = np.empty((sum(map(len, self.rows)), len(self.modalities)), np.float32)
        for rows, part in zip(self.rows, self.parts, strict=True):
            found[rows] = part
        return found

    def table(self, subjects: Array) -> Table:
        """Return the mean and the spread of each modality's weight over those who have it; none of few patients."""
        rows: list[list[Any]] = []
        for name, column in zip(self.modalities, self.values().T, strict=True):
            has = np.isfinite(column)
            if len(np.unique(subjects[has])) >= LEAST:
                low, high = np.quantile(column[has], (0.1, 0.9))
                rows.append([name, int(has.sum()), float(column[has].mean()), float(low), float(high)])
        return Table(["modality", "predictions", "mean weight", "10% below", "10% above"], rows)

    def write(self, keys: pl.DataFrame, out: Path) -> None:
        """Write each prediction's subject, time and weights, as a file of predictions has them."""
        columns = {f"weight_{name}": column for name, column in zip(self.modalities, self.values().T, strict=True)}
        weights = pl.DataFrame(columns).with_columns(pl.all().fill_nan(None))
        with whole_file(out, private=True) as temporary:
            pl.concat([keys.select("subject_id", "prediction_time"), weights], how="horizontal").write_parquet(
                temporary
            )

"""The one model that synthesis, imputation and anomalies share: vectors, their scale, a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.generative.diffusion import Diffusion, Layout, Training, fit_diffusion
from experiments.generative.facts import Facts
from experiments.generative.gather import Gathered, binary_label
from experiments.generative.scale import Scale, fit_scale
from experiments.generative.vectors import Reader, Vectors, fit_reader, with_label

Array = NDArray[Any]


@dataclass(frozen=True)
class Learned:
    """What was learned from the training rows of a cohort, the vectors of all rows, and the cells of the training rows.

    Shape:
        vectors.values (N, D), training (n, C).
    """

    reader: Reader
    scale: Scale
    diffusion: Diffusion
    vectors: Vectors
    training: Array

    def cells(self, facts: Sequence[Facts]) -> Array:
        """Return the cells of other records; only where the model was learned without a label."""
        return self.scale.cells(self.reader.vectors(facts))

    @property
    def label(self) -> NDArray[np.bool_]:
        """Which cells are the label. Shape: (C,) bool."""
        return np.array([part == "label" for part in self.scale.parts])


def learn(
    gathered: Gathered,
    training: Training,
    *,
    statistics: Sequence[str] = ("last",),
    labelled: bool = False,
    progress: bool = False,
) -> Learned:
    """Learn columns, scale and denoiser from the train split; nobody else is looked at.

    Raises:
        UsageError: there are too few training records, nothing in them varies, or the label is not binary.
    """
    reader = fit_reader(gathered.of("train"), statistics, training.seed)
    vectors = reader.vectors(gathered.facts)
    if labelled:
        vectors = with_label(vectors, gathered.label, binary_label(gathered))
    mine = vectors.rows(gathered.cohort.rows("train"))
    scale = fit_scale(mine)
    cells = scale.cells(mine)
    diffusion = fit_diffusion(cells, Layout.of(scale.groups, scale.parts), training, progress=progress)
    return Learned(reader, scale, diffusion, vectors, cells)

"""Numbers by multimodal fusion, behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from experiments.estimator.shared import Fusion, target
from fusion.task import Task


class FusionRegressor(RegressorMixin, Fusion):  # type: ignore[misc]
    """Predict a number from whatever modalities a patient has."""

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn from rows and their numbers; the epoch with the least squared error on the tuning rows is kept.

        Args:
            groups: whose each row is; rows of one patient are all learned from or all kept for tuning.

        Raises:
            UsageError: a setting, a column or a cell that cannot be.
        """
        self._learn(X, target(self, y).astype(np.float32), groups, Task("regression"), "rmse")
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the number expected. Shape: N rows -> (N,)."""
        return self._predicted(X)[:, 0]

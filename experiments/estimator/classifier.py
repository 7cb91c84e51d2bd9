"""Classes by multimodal fusion, behind scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from experiments.bundle import Predictor
from experiments.estimator.shared import Fusion, target
from fusion.component import UsageError
from fusion.task import Task


class FusionClassifier(ClassifierMixin, Fusion):  # type: ignore[misc]
    """Predict which of two or more classes a patient is in, from whatever modalities the patient has.

    Examples:
        >>> import numpy as np
        >>> X, y = np.array([[-1.0], [1.0]] * 20), ["well", "ill"] * 20
        >>> FusionClassifier(epochs=10, batch_size=8).fit(X, y).predict([[-1.0], [1.0]]).tolist()
        ['well', 'ill']
    """

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn from rows and their classes; the epoch with the least log loss on the tuning rows is kept.

        Args:
            groups: whose each row is; rows of one patient are all learned from or all kept for tuning.

        Raises:
            UsageError: a setting, a column or a cell that cannot be, or y with one class only.
        """
        given = target(self, y)
        check_classification_targets(given)
        self.classes_, number = np.unique(given, return_inverse=True)
        if len(self.classes_) < 2:
            raise UsageError("y has one class only: a classifier needs rows of at least 2 classes")
        names, binary = tuple(str(each) for each in self.classes_), len(self.classes_) == 2
        task = Task("binary", (names[1],)) if binary else Task("multiclass", names)
        self._learn(X, number.astype(np.float32) if binary else number.astype(np.int64), groups, task, "log_loss")
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`. Shape: N rows -> (N, classes)."""
        found = self._predicted(X)
        return np.hstack([1 - found, found]) if len(self.classes_) == 2 else found / found.sum(1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the likeliest class. Shape: N rows -> (N,)."""
        found = self.predict_proba(X)
        return np.asarray(self.classes_[found.argmax(1)])

    def _fitted(self) -> dict[str, Any]:
        return {**super()._fitted(), "classes": self.classes_.tolist(), "type": self.classes_.dtype.str}

    def _remember(self, fitted: dict[str, Any], predictor: Predictor) -> None:
        super()._remember(fitted, predictor)
        self.classes_ = np.array(fitted["classes"], np.dtype(fitted["type"]))

"""The loss and the activation of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fusion.task import Task


@dataclass(frozen=True)
class Criterion:
    """The loss of a task, with what is done about rare classes and overconfidence.

    `class_weight` weighs positives (binary, multilabel) or classes (multiclass); `label_smoothing` moves that share of
    a target to all classes; `focal_gamma` makes what is already right count less. Regression knows none of them.

    Shape:
        class_weight: (K,) or None.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, 2017; Szegedy et al., Rethinking the Inception Architecture
        for Computer Vision, 2016 (label smoothing).
    """

    task: Task
    class_weight: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def rows(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one loss a patient: cross-entropy, binary cross-entropy (mean of labels) or scaled squared error.

        Shape:
            logits (B, K); target (B,) float, (B,) long for multiclass, (B, K) float for multilabel -> (B,).
        """
        logits = logits.float()
        if self.task.kind == "regression":
            wanted = (target.float() - self.task.center) / self.task.scale
            return functional.mse_loss(logits.squeeze(-1), wanted, reduction="none")
        if self.task.kind == "multiclass":
            kind = target.long()
            found = functional.cross_entropy(
                logits, kind, self.class_weight, reduction="none", label_smoothing=self.label_smoothing
            )
            return found * self._focus(lambda: functional.cross_entropy(logits, kind, reduction="none"))
        exact = target.float().reshape(logits.shape)
        wanted = exact * (1 - self.label_smoothing) + self.label_smoothing / 2
        found = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.class_weight, reduction="none"
        )
        plain = functional.binary_cross_entropy_with_logits
        return (found * self._focus(lambda: plain(logits, exact, reduction="none"))).mean(-1)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over patients. Shape: (B, K), target -> scalar."""
        return self.rows(logits, target).mean()

    def confidence(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the probability given to what is true; of several labels their geometric mean. Shape: -> (B,)."""
        return (-Criterion(self.task).rows(logits, target)).exp()

    def _focus(self, cross_entropy: Callable[[], Tensor]) -> Tensor | float:
        """(1 - p)^gamma with p the probability of what is true."""
        return (1 - (-cross_entropy()).exp()).clamp(min=1e-6) ** self.focal_gamma if self.focal_gamma else 1.0


def activate(task: Task, logits: Tensor) -> Tensor:
    """Turn logits (B, K) into what is reported: probabilities (B, K), or values (B, 1) in the target's unit."""
    logits = logits.float()
    if task.kind == "multiclass":
        return logits.softmax(-1)
    if task.kind == "regression":
        return logits * task.scale + task.center
    return logits.sigmoid()

"""What a model predicts: outputs, loss and activation by kind of task."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

Kind = Literal["binary", "multiclass", "multilabel", "regression"]


@dataclass(frozen=True)
class Task:
    """A kind of target with the names of its classes or labels, and the scale of a regression target.

    `center` and `scale` are the mean and spread of a regression target on the training split: the network predicts
    (y - center) / scale.
    """

    kind: Kind
    names: tuple[str, ...] = ("value",)
    center: float = 0.0
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """How many logits a patient gets (K)."""
        return len(self.names) if self.kind in ("multiclass", "multilabel") else 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Task:
        """Rebuild a task from `to_dict`."""
        return cls(data["kind"], tuple(data["names"]), float(data["center"]), float(data["scale"]))


def loss(task: Task, logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Mean loss: cross-entropy, binary cross-entropy or squared error of the standardised target.

    Shape:
        logits (B, K); target (B,) float, (B,) long for multiclass, (B, K) float for multilabel -> scalar.
        class_weight (K,) weighs positives (binary, multilabel) or classes (multiclass).
    """
    logits = logits.float()
    if task.kind == "multiclass":
        return functional.cross_entropy(logits, target.long(), weight=class_weight)
    if task.kind == "regression":
        return functional.mse_loss(logits.squeeze(-1), (target.float() - task.center) / task.scale)
    wanted = target.float().reshape(logits.shape)
    return functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=class_weight)


def activate(task: Task, logits: Tensor) -> Tensor:
    """Turn logits (B, K) into what is reported: probabilities (B, K), or values (B, 1) in the target's unit."""
    logits = logits.float()
    if task.kind == "multiclass":
        return logits.softmax(-1)
    if task.kind == "regression":
        return logits * task.scale + task.center
    return logits.sigmoid()

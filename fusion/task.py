"""What a model predicts: outputs by kind of task. Their loss and activation, which need torch, are in `criterion`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fusion.component import UsageError, unknown

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
        """Rebuild a task from `to_dict`.

        Raises:
            UsageError: there is no such kind, or a name is no text.
        """
        if data["kind"] not in get_args(Kind):
            raise unknown("kind of task", str(data["kind"]), get_args(Kind))
        if not data["names"] or not all(isinstance(name, str) for name in data["names"]):
            raise UsageError(f"a task needs the names of its outputs; got {data['names']!r}")
        return cls(data["kind"], tuple(data["names"]), float(data["center"]), float(data["scale"]))

"""What else is learned along with the weights, such as architecture parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from experiments.data.batches import Batch


class Companion(Protocol):
    """Takes part in every step of a run, and is kept in its checkpoints."""

    def before_step(self, batch: Batch) -> None:
        """Learn before the weights learn from a batch."""
        ...

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        ...

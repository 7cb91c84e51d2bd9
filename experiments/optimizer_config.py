"""Settings of the optimizer that all that is trained shares: AdamW with a linear warm-up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from experiments.strict import Strict

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class OptimizerConfig(Strict):
    """How weights are learned, whatever is learned.

    With `decay` the learning rate falls linearly after the warm-up, to nothing after the last epoch.
    """

    epochs: Count = 27
    batch_size: Count = 64
    lr: Positive = 1e-3
    warmup_steps: Steps = 100
    decay: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    clip: Positive = 1.0
    deterministic: bool = True

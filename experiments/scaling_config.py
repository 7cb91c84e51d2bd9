"""Settings of a scaling study: which sizes, on how much of the training data or for how many operations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiments.optimizer_config import Count, OptimizerConfig, Positive, Share, Steps
from fusion.component import Architecture, Spec

LEAST_DIM = 4


class ScalingConfig(OptimizerConfig):
    """What `ehrfusion scaling` does: every size of an encoder, on every share of the patients and for every budget.

    A size is `dim` and hyperparameters of the encoder. `shares` are of the patients of the train split that are learned
    from; a budget of `flops` is spent by as large a share as it pays for, each patient seen `epochs` times. A share
    `validation` of the patients of the train split judges all cells. With `objective: next_event` the loss is that of
    the next token; with `task` it is the log loss of the labels, and data are counted in labels. Cells that took fewer
    than `least_steps` steps have hardly left where they began; they are shown, and no surface is fitted to them.
    """

    sizes: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    objective: Literal["next_event", "task"] = "next_event"
    modality: str = "codes"
    encoder: str = "timeline"
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    flops: tuple[Positive, ...] = ()
    seeds: Count = 1
    epochs: Count = 1
    batch_size: Count = 16
    lr: Positive = 3e-3
    warmup_steps: Steps = 20
    decay: bool = True
    least_steps: Steps = 200
    validation: Share = 0.1

    @model_validator(mode="after")
    def _whole(self) -> ScalingConfig:
        if not self.shares and not self.flops:
            raise ValueError("a scaling study needs shares of the data, budgets of flops, or both")
        for name, values in (("shares", self.shares), ("flops", self.flops)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} lists one twice")
        for i, size in enumerate(self.sizes):
            dim = size.get("dim")
            if not isinstance(dim, int) or isinstance(dim, bool) or dim < LEAST_DIM:
                raise ValueError(
                    f"each of sizes has a dim, a whole number of at least {LEAST_DIM}; number {i + 1} has not"
                )
            if size in self.sizes[:i]:
                raise ValueError(f"sizes lists one twice: {size}")
        if self.objective == "next_event" and (self.modality, self.encoder) != ("codes", "timeline"):
            raise ValueError("objective 'next_event' reads forwards; it needs modality codes and encoder timeline")
        return self

    def architecture(self, size: int) -> Architecture:
        """Return the network of a size by its number."""
        params = {name: value for name, value in self.sizes[size].items() if name != "dim"}
        return Architecture({self.modality: Spec(self.encoder, params)}, Spec("sum"), self.sizes[size]["dim"])

"""Settings of the data: which folder and label, who is in which split, and how records are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiments.strict import Strict
from fusion.task import Kind


class SyntheticConfig(Strict):
    """What `data.folder` is filled with when it does not exist yet; without a rate of missing, the recipe's own."""

    patients: Annotated[int, Field(ge=50)] = 2000
    seed: int = 0
    recipe: str = "mixed"
    missing: Literal["random", "severity"] = "random"
    note_missing: Annotated[float, Field(ge=0, le=1)] | None = None
    image_missing: Annotated[float, Field(ge=0, le=1)] | None = None


class SplitConfig(Strict):
    """Who is in which split: as the folder says, or anew by patient (seeded), by time or by site; never by event.

    In another `fold` than 0, train and tuning patients are dealt anew, as many as before; the held-out ones stay.
    """

    by: Literal["folder", "patient", "time", "site"] = "folder"
    fold: Annotated[int, Field(ge=0)] = 0
    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    tuning: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> SplitConfig:
        if self.train + self.tuning >= 1:
            raise ValueError(f"train ({self.train}) + tuning ({self.tuning}) must leave something held out")
        return self


class DataConfig(Strict):
    """Which folder, which label, and how records are read and prepared."""

    folder: Path
    labels: str = "outcome"
    task: Kind | None = None
    window_days: Annotated[float, Field(gt=0)] | None = None
    splits: SplitConfig = SplitConfig()
    bad_images: Literal["error", "missing"] = "error"
    preprocess: dict[str, dict[str, Any]] = {}
    synthetic: SyntheticConfig | None = None

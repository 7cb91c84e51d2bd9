"""Settings of a comparison: who takes part, on which patients, by which metric, and what tuning each strategy has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiments.strict import Strict


class PowerConfig(Strict):
    """What the smallest difference that a comparison could show is planned with.

    That is the AUROC of the lower of two strategies (of each class or label, where there are several), or the share of
    a number's variance that it explains; and how what both get wrong correlates among patients.
    """

    auroc: Annotated[float, Field(ge=0.5, lt=1)] = 0.75
    explained: Annotated[float, Field(gt=0, lt=1)] = 0.25
    correlation: Annotated[float, Field(ge=0, lt=1)] = 0.5


class TuneConfig(Strict):
    """Nested tuning: how many settings of a strategy are tried in each fold, its own first; what training varies.

    A candidate is trained once and judged on the fold's tuning patients.
    """

    trials: Annotated[int, Field(ge=2)]
    training: dict[str, Any] = {"lr": {"low": 3e-4, "high": 1e-2, "log": True}}


class CompareConfig(Strict):
    """How strategies are compared on held-out patients; without `fusions`, those of the study's space.

    With `folds` from 2 on, all patients are dealt into as many folds, and each fold is held out once, with every seed;
    with `folds_by: site` whole sites are, and with as many folds as sites each is held out by itself. With 1 the
    held-out split alone is. Unless given there are 5 for an experiment, or as many as its outcomes allow, and 1 where a
    search has seen the patients that folds would hold out, or where splits keep times or sites apart.
    The metric that decides is `primary`, or else the one that picks epochs. With `equal: flops` every network may train
    as many operations as the best architecture does in its epochs. Differences up to `equivalence`, 0.01 for metrics
    between 0 and 1, do not matter in practice. With `tune` every strategy has its own settings tuned, in each fold.
    Held-out patients are looked at by codes with the prefixes `subgroups`, or with those by which sources write sex,
    ethnicity and region. The models are also tested on all labelled patients of another data folder, `external`, on
    which nothing is trained, tuned or recalibrated.
    """

    fusions: Annotated[list[str], Field(min_length=1)] | None = None
    controls: bool = True
    equal: Literal["epochs", "flops"] = "epochs"
    folds: Annotated[int, Field(ge=1, le=50)] | None = None
    folds_by: Literal["patient", "site"] = "patient"
    seeds: Annotated[int, Field(ge=1)] = 3
    primary: str | None = None
    resamples: Annotated[int, Field(ge=100)] = 1000
    interval: Literal["percentile", "bca"] = "percentile"
    equivalence: Annotated[float, Field(gt=0)] | None = None
    power: PowerConfig = PowerConfig()
    subgroups: tuple[str, ...] | None = None
    tune: TuneConfig | None = None
    external: Path | None = None

    @model_validator(mode="after")
    def _sites_are_folds(self) -> CompareConfig:
        if self.folds_by == "site" and self.folds in (None, 1):
            raise ValueError("folds_by: site holds sites out in turn; set compare.folds to 2 or more")
        return self

    @model_validator(mode="after")
    def _tuned_or_equal(self) -> CompareConfig:
        if self.tune is not None and self.equal == "flops":
            raise ValueError("tuned strategies are of different size; compare.tune goes with equal: epochs")
        return self

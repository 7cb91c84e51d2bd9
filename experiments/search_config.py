"""Settings of a search: budget, sampler, pruning, objectives, and what is trained before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from experiments.strict import Strict


class SupernetConfig(Strict):
    """A network of all AutoFM architectures, trained before the search; what comes out are the search's first trials.

    `bilevel` trains architecture parameters (order 1 or 2) and prunes down to one architecture; `single_path` trains
    one random architecture a step, ranks `paths` of them by their shared weights and keeps the `top`.
    """

    method: Literal["bilevel", "single_path"] = "bilevel"
    epochs: Annotated[int, Field(ge=1)] = 10
    order: Literal[1, 2] = 2
    lr: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    diversity: Annotated[float, Field(ge=0)] = 0.1
    tune_every: Annotated[int, Field(ge=1)] = 8
    paths: Annotated[int, Field(ge=1)] = 100
    top: Annotated[int, Field(ge=1)] = 3


class FinalistsConfig(Strict):
    """How many of the best trials are trained anew, with how many seeds each, to choose what to compare and keep."""

    top: Annotated[int, Field(ge=1)] = 3
    seeds: Annotated[int, Field(ge=1)] = 3


class SearchConfig(Strict):
    """How the space is searched: one total budget, in trials, epochs, seconds or flops, also when resumed.

    `objectives` are optimised beside the metric, `limits` must not be exceeded, and `subgroups` are prefixes of codes
    by which patients are grouped for the objective `worst_subgroup`. `fractions` are the shares of the training
    patients that a trial learns from until its first rung, from there to its second, and so on; then from all. An
    epoch on a share of the patients counts as that share of an epoch. `flops` are operations of training: those of a
    forward pass for each patient learned from, times three. A candidate that was there before is not trained again;
    its ticket is drawn anew up to three times. `stack` is how many trials of one structure a worker trains together;
    they differ in learning rate, weight decay, dropout and the like. What cannot be stacked is trained alone.

    With `baselines` the first trials are every fusion over the first encoder that each modality has in the space, so
    that no search ends below the plain models that everybody would have tried by hand.

    Without `workers` there is one a GPU, or one a core where there is no GPU; more workers than GPUs share them, which
    pays for small models. `trial_seconds` is the most that one attempt of a trial may take. `checkpoints` is a folder
    or a URL that all hosts of a study reach (`s3://bucket/studies`); without it they are in the study's folder.

    The `engine` is where workers run: processes of this machine, or a Ray cluster. There each worker takes
    `cpus_per_worker` and `gpus_per_worker` (0.25: four share a GPU; without it one where the cluster has GPUs), and if
    none has found a place after `placement_seconds`, the search ends.
    """

    trials: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    flops: Annotated[float, Field(gt=0)] | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsga2", "nsga3", "evolution", "progressive"] = "tpe"
    group: bool = False
    startup_trials: Annotated[int, Field(ge=1)] = 10
    pruner: Literal["halving", "pausing", "hyperband", "none"] = "halving"
    first_rung: Annotated[int, Field(ge=1)] = 3
    reduction: Annotated[int, Field(ge=2)] = 3
    baselines: bool = False
    fractions: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    storage: str | None = None
    checkpoints: str | None = None
    trial_seconds: Annotated[float, Field(gt=0)] | None = None
    engine: Literal["local", "ray"] = "local"
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    placement_seconds: Annotated[float, Field(gt=0)] = 600.0
    supernet: SupernetConfig | None = None
    objectives: tuple[str, ...] = ()
    limits: dict[str, float] = {}
    stack: Annotated[int, Field(ge=1)] = 1
    subgroups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_budget(self) -> SearchConfig:
        if sum(each is not None for each in (self.trials, self.epochs, self.seconds, self.flops)) != 1:
            raise ValueError("give a budget: exactly one of 'trials', 'epochs', 'seconds' and 'flops'")
        if self.flops is not None and self.supernet is not None:
            raise ValueError("the operations of a supernet are not counted; with one, give trials, epochs or seconds")
        return self

    @model_validator(mode="after")
    def _gpus_are_whole_or_shared(self) -> SearchConfig:
        gpus = self.gpus_per_worker
        if gpus is not None and gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus_per_worker is a part of one GPU or a whole number of them; got {gpus:g}")
        return self

    @model_validator(mode="after")
    def _memory_is_of_one(self) -> SearchConfig:
        if self.stack > 1 and "memory_mb" in (*self.objectives, *self.limits):
            raise ValueError("stacked trials share their memory, so that memory_mb of one is not known; write stack: 1")
        return self

    @model_validator(mode="after")
    def _limits_are_learned(self) -> SearchConfig:
        if self.limits and self.sampler in ("gp", "cmaes", "progressive"):
            raise ValueError(
                f"sampler '{self.sampler}' does not learn from trials that a limit ended, and would propose them again "
                "and again; take tpe, nsga2, nsga3 or evolution"
            )
        return self

    @model_validator(mode="after")
    def _fractions_rise(self) -> SearchConfig:
        if self.fractions and self.pruner == "none":
            raise ValueError("fractions are of rungs, and pruner 'none' has none; take halving, pausing or hyperband")
        if list(self.fractions) != sorted(set(self.fractions)):
            raise ValueError(f"fractions must rise; got {', '.join(f'{each:g}' for each in self.fractions)}")
        return self

    @model_validator(mode="after")
    def _several_are_not_pruned(self) -> SearchConfig:
        if self.objectives and self.pruner != "none":
            raise ValueError(f"several objectives cannot be pruned by one; write pruner: none (it is '{self.pruner}')")
        if self.objectives and self.sampler == "cmaes":
            raise ValueError("sampler 'cmaes' has one objective; take nsga2, nsga3, tpe or gp for several")
        return self

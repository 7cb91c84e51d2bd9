"""Which runs can be trained together, and what is said of each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from encoders import ENCODERS
from encoders.heads import LINEAR
from encoders.stacked import STACKABLE as STACKABLE_ENCODERS
from experiments.config import TrainingConfig
from experiments.feeding import check_architecture
from experiments.loop import EpochReport
from experiments.remote import Place
from fusion import FUSIONS, Architecture, FusionModel, Spec, UsageError
from fusion.stacked import STACKABLE as STACKABLE_FUSIONS
from search.settings import NONE
from search.space import Space

OWN = ("lr", "weight_decay", "clip", "warmup_steps")
"""The training settings in which runs trained together may differ."""
_PLAIN = ("modality_dropout", "unimodal_loss", "alignment", "balance", "average", "devices", "interaction_target")
# as a plain run has them


class Watch(NamedTuple):
    """Whom a run reports to, who may stop it, and where it keeps its checkpoint; as `train` takes them."""

    on_epoch: EpochReport | None = None
    should_stop: Callable[[], bool] | None = None
    checkpoint: Place | None = None
    on_model: Callable[[FusionModel, Mapping[str, Any]], None] | None = None

    def asks_to_stop(self) -> bool:
        """Tell whether the run must end now."""
        return self.should_stop is not None and self.should_stop()


class Member(NamedTuple):
    """One of the runs that are trained together."""

    architecture: Architecture
    training: TrainingConfig
    seed: int
    watch: Watch = Watch()


def check_stackable(members: Sequence[Member]) -> None:
    """Check that runs can be trained together.

    Raises:
        UsageError: no run; a component or a setting that cannot be stacked; runs that differ in more than they may.
    """
    if not members:
        raise UsageError("nothing to train together; got no runs")
    first = members[0]
    check_architecture(first.architecture)
    _check_kinds(first.architecture)
    plain = TrainingConfig()
    for architecture, training, *_ in members:
        if _structure(architecture) != _structure(first.architecture):
            raise UsageError("runs trained together may differ in dropout, not in architecture")
        for name in _PLAIN:
            mine, wanted = getattr(training, name), getattr(plain, name)
            if mine != wanted:
                raise UsageError(f"runs trained together must have training.{name} {wanted}; got {mine}")
        if training.batch_order is None:
            raise UsageError("runs trained together see the same batches: set training.batch_order to a seed; got none")
        for name in TrainingConfig.model_fields:
            mine, wanted = getattr(training, name), getattr(first.training, name)
            if name not in OWN and mine != wanted:
                raise UsageError(f"runs trained together must have one training.{name}; got {wanted} and {mine}")


def may_differ(parameter: str) -> bool:
    """Tell whether runs trained together may differ in a parameter of a search, such as `training.lr`."""
    place, _, name = parameter.rpartition(".")
    return name in OWN if place == "training" else name == "dropout"


def apart(space: Space, training: TrainingConfig) -> str | None:
    """Say what of a space is trained one at a time although trials are stacked; None where nothing is."""
    alone = [
        f"{modality} {name}"
        for modality, options in space.encoders.items()
        for name in options
        if name != NONE and ENCODERS[modality][name] not in STACKABLE_ENCODERS
    ]
    alone += [f"fusion {name}" for name in space.fusion if FUSIONS[name] not in STACKABLE_FUSIONS]
    plain = TrainingConfig()
    alone += [
        f"training.{name}"
        for name in _PLAIN
        if name in space.training or getattr(training, name) != getattr(plain, name)
    ]
    return f"search.stack: trials are trained one at a time with {', '.join(alone)}" if alone else None


def groups(architecture: Architecture, training: TrainingConfig, seeds: Sequence[int]) -> list[list[int]]:
    """Group the seeds of one architecture: all together where that works, each alone otherwise."""
    if can_stack([Member(architecture, training, seed) for seed in seeds]):
        return [list(seeds)]
    return [[seed] for seed in seeds]


def can_stack(members: Sequence[Member]) -> bool:
    """Tell whether it pays and works to train runs together."""
    try:
        check_stackable(members)
    except UsageError:
        return False
    return len(members) > 1


def _structure(architecture: Architecture) -> dict[str, Any]:
    """Return an architecture as plain data without its dropouts."""
    return Architecture(
        {modality: _undropped(spec) for modality, spec in architecture.encoders.items()},
        _undropped(architecture.fusion),
        architecture.dim,
    ).to_dict()


def _undropped(spec: Spec) -> Spec:
    return Spec(spec.name, {name: value for name, value in spec.params.items() if name != "dropout"})


def _check_kinds(architecture: Architecture) -> None:
    """Refuse what has no stacked form."""
    for modality, spec in architecture.encoders.items():
        known = [name for name, kind in ENCODERS[modality].items() if kind in STACKABLE_ENCODERS]
        if spec.name not in known:
            raise UsageError(
                f"encoders.{modality}: '{spec.name}' cannot be trained together with others; "
                f"of {modality} can: {', '.join(known) or 'none'}"
            )
    if architecture.head.name != LINEAR:
        raise UsageError(f"head: '{architecture.head.name}' cannot be trained together with others; can: {LINEAR}")
    known = [name for name, kind in FUSIONS.items() if kind in STACKABLE_FUSIONS]
    if architecture.fusion.name not in known:
        raise UsageError(
            f"fusion: '{architecture.fusion.name}' cannot be trained together with others; can: {', '.join(known)}"
        )

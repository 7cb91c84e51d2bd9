"""Several small runs of one structure trained together: other seeds, learning rates, decays, dropouts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders import ENCODERS
from encoders.stacked import STACKABLE as STACKABLE_ENCODERS
from encoders.stacked import stack_encoders
from experiments.config import TrainingConfig
from experiments.data.batches import Batch
from experiments.data.store import Store
from experiments.device import move, pick_device, reset_peak_memory, seed_everything
from experiments.evaluate import precision, predict_sources
from experiments.feeding import build_model, check_architecture, preparations, sources
from experiments.loop import NotFinite, Run
from experiments.optimizer import warm_up
from experiments.train import Fit, finished, train
from fusion import FUSIONS, Architecture, Spec, UsageError
from fusion.stacked import STACKABLE as STACKABLE_FUSIONS
from fusion.stacked import StackedLinear, StackedModel, stack_fusion

OWN = ("lr", "weight_decay", "clip", "warmup_steps")
"""The training settings in which runs trained together may differ."""
_PLAIN = ("modality_dropout", "unimodal_loss", "alignment", "balance", "average")  # must be as a plain run has them


class Member(NamedTuple):
    """One of the runs that are trained together."""

    architecture: Architecture
    training: TrainingConfig
    seed: int


def train_stacked(
    members: Sequence[Member], store: Store, *, preprocess: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Fit | NotFinite]:
    """Train runs of one structure together, as `train` would train each alone, up to float error.

    They share batches (`training.batch_order`) and differ in seed, dropout and the settings in `OWN`. Each keeps its
    own optimizer, clipping, dice and patience; one that diverges or is out of patience leaves, and the others go on.
    Nothing is checkpointed: this is for runs of minutes.

    Raises:
        UsageError: the runs cannot be trained together; the message says why.
    """
    check_stackable(members)
    device = pick_device()
    reset_peak_memory(device)
    plans = preparations(members[0].architecture, preprocess or {})
    store.prepare(list(plans.values()))
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    runs = []
    for architecture, training, seed in members:
        seed_everything(seed, training.deterministic)
        model = build_model(architecture, fitted, store.task.outputs).to(device)
        runs.append(
            Run(model, store, training, seed, sources(model, plans, store, ("train", "tuning"), device), device)
        )
    failures: dict[int, NotFinite] = {}
    going = {i: run for i, run in enumerate(runs) if _goes_on(run)}
    while going:
        stack = _Stack(list(going.values()), device)
        while len(going) == stack.model.count:
            lost = stack.epoch()
            failures |= {i: lost[place] for place, i in enumerate(going) if place in lost}
            going = {i: run for i, run in going.items() if i not in failures and _goes_on(run)}
    return [failures.get(i) or _alone(finished(run, plans)) for i, run in enumerate(runs)]


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
    for architecture, training, _ in members:
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


def groups(architecture: Architecture, training: TrainingConfig, seeds: Sequence[int]) -> list[list[int]]:
    """Group the seeds of one architecture: all together where that works, each alone otherwise."""
    if can_stack([Member(architecture, training, seed) for seed in seeds]):
        return [list(seeds)]
    return [[seed] for seed in seeds]


def train_seeds(
    architecture: Architecture,
    store: Store,
    training: TrainingConfig,
    seeds: Sequence[int],
    *,
    preprocess: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Fit | NotFinite]:
    """Train one architecture with each seed, together if there are several; one that diverged gives the reason.

    Raises:
        NotFinite: the only run diverged.
        UsageError: several seeds that cannot be trained together; `groups` tells.
    """
    if len(seeds) == 1:
        return [train(architecture, store, training, seeds[0], preprocess=preprocess)]
    return train_stacked([Member(architecture, training, seed) for seed in seeds], store, preprocess=preprocess)


def can_stack(members: Sequence[Member]) -> bool:
    """Tell whether it pays and works to train runs together."""
    try:
        check_stackable(members)
    except UsageError:
        return False
    return len(members) > 1


class _Stack:
    """Runs that go on together until one of them leaves."""

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        self.runs, self.device = runs, device
        self.dice = [torch.Generator(device) for _ in runs]
        self.most = torch.tensor([run.training.clip for run in runs], device=device)
        models = [run.model for run in runs]
        encoders = {
            name: stack_encoders([model.encoders[name] for model in models], self.dice) for name in models[0].encoders
        }
        fusion = stack_fusion([model.fusion for model in models], self.dice)
        self.model = StackedModel(models, encoders, fusion, StackedLinear([model.head for model in models])).to(device)

    def epoch(self) -> dict[int, NotFinite]:
        """Train every run for an epoch and score it; return those that are not finite, by their place."""
        first, start = self.runs[0], time.monotonic()
        for run, dice in zip(self.runs, self.dice, strict=True):
            dice.manual_seed(run.epoch_seed())
        done = first.state.epoch * math.ceil(len(first.learned) / first.training.batch_size)
        sums = torch.zeros(len(self.runs), device=self.device)
        for step, batch in enumerate(first.batches(first.learned)):
            sums += self.gradients(batch) * len(batch.rows)
            for run in self.runs:
                warm_up(run.optimizer, run.training, done + step)
                run.optimizer.step()
        means = (sums / max(1, len(first.learned))).tolist()
        several = [len(self.runs)]
        found = predict_sources(self.model, first.feeds, first.store, first.tuning, self.device, stacked=several)
        seconds = (time.monotonic() - start) / len(self.runs)
        closed = [_close(*each, seconds) for each in zip(self.runs, means, found, strict=True)]
        return {place: failure for place, failure in enumerate(closed) if failure is not None}

    def gradients(self, batch: Batch) -> Tensor:
        """Give every model its gradients on a batch and return the losses. Shape: -> (K,)."""
        count, inputs, target = len(self.runs), move(batch.inputs, self.device), batch.target.to(self.device)
        with precision(self.device):
            logits = self.model(inputs)
            target = target.repeat(count, *[1] * (target.dim() - 1))
            rows = self.runs[0].strategies.criterion.rows(logits.flatten(0, 1), target)
            losses = rows.unflatten(0, (count, -1)).mean(1)
        losses.sum().backward()
        self.model.give_gradients(self.most)
        return losses.detach()


def _close(run: Run, loss: float, found: NDArray[np.float32], seconds: float) -> NotFinite | None:
    """End an epoch of a run as the loop does, or say why it cannot go on."""
    epoch = run.state.epoch + 1
    if not math.isfinite(loss):
        return NotFinite(f"the loss is {loss} in epoch {epoch}")
    try:
        run.record({"epoch": float(epoch), "train_loss": loss, **run.judge(found), "seconds": seconds})
    except NotFinite as failure:
        return failure
    return None


def _goes_on(run: Run) -> bool:
    return run.state.epoch < run.training.epochs and not run.out_of_patience()


def _alone(fit: Fit) -> Fit:
    """Give a model weights of its own in place of views of the stacked ones, which would be kept alive."""
    for each in fit.model.parameters():
        each.data = each.data.clone()
    return fit


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
    known = [name for name, kind in FUSIONS.items() if kind in STACKABLE_FUSIONS]
    if architecture.fusion.name not in known:
        raise UsageError(
            f"fusion: '{architecture.fusion.name}' cannot be trained together with others; can: {', '.join(known)}"
        )

"""Several small runs of one structure trained together: other seeds, learning rates, decays, dropouts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.stacked import stack_encoders
from experiments.compiling import begin_step, check_compile, compile_parts
from experiments.config import TrainingConfig
from experiments.data.batches import Batch
from experiments.data.shares import Shares, share_entry
from experiments.data.store import Store
from experiments.device import move, pick_device, reset_peak_memory, seed_everything
from experiments.evaluate import precision, predict_sources
from experiments.feeding import build_model, preparations, sources
from experiments.loop import NotFinite, Run, Stopped
from experiments.optimizer import warm_up
from experiments.stackable import Member, Watch, check_stackable
from experiments.train import Fit, finished, train
from fusion import Architecture
from fusion.stacked import StackedLinear, StackedModel, stack_fusion


def train_stacked(
    members: Sequence[Member],
    store: Store,
    *,
    preprocess: Mapping[str, Mapping[str, Any]] | None = None,
    shares: Shares | None = None,
) -> list[Fit | Exception]:
    """Train runs of one structure together, as `train` would train each alone, up to float error.

    They share batches (`training.batch_order`) and differ in seed, dropout and the settings in `OWN`. Each keeps its
    own optimizer, clipping, dice and patience, and its checkpoint, from which `train` goes on. A run that diverges
    (`NotFinite`), is out of patience, is stopped, or whose `watch` raises something, leaves, and the others go on; of
    each the list holds what it came to. All start at the first epoch.

    Raises:
        UsageError: the runs cannot be trained together; the message says why.
    """
    check_stackable(members)
    device = pick_device()
    check_compile(members[0].training.compile, device.type == "cuda")
    reset_peak_memory(device)
    plans = preparations(members[0].architecture, preprocess or {})
    store.prepare(list(plans.values()))
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    runs: list[Run] = []
    ends: dict[int, Exception] = {}
    for i, (architecture, training, seed, watch) in enumerate(members):
        seed_everything(seed, training.deterministic)
        model = build_model(architecture, fitted, store.task.outputs).to(device)
        feeds = sources(model, plans, store, ("train", "tuning"), device)
        if watch.on_model is not None:
            _note(ends, i, partial(watch.on_model, model, feeds))
        runs.append(Run(model, store, training, seed, feeds, device))
        runs[-1].shares = shares
    _train_all(runs, [each.watch for each in members], ends, device)
    return [ends.get(i) or _alone(finished(run, plans)) for i, run in enumerate(runs)]


def _train_all(runs: Sequence[Run], watches: Sequence[Watch], ends: dict[int, Exception], device: torch.device) -> None:
    """Train runs until each has come to its end; keep those that did not come to a good one by their place."""

    def going_on(places: Iterable[int]) -> list[int]:
        for i in places:
            _note(ends, i, partial(_stop_if_asked, watches[i]))
        return [i for i in places if i not in ends and _goes_on(runs[i])]

    def asked() -> bool:  # within an epoch, what stops one stops all: the process ends, or the budget
        return any(watches[i].asks_to_stop() for i in going)

    stack: _Stack | None = None
    going = going_on(range(len(runs)))
    while going:
        if stack is None or len(going) < stack.model.count:
            stack = _Stack([runs[i] for i in going], device)
        try:
            lost = stack.epoch(asked)
        except Stopped as stopped:
            ends |= dict.fromkeys(going, stopped)
            return
        ends |= {i: lost[place] for place, i in enumerate(going) if place in lost}
        for i in going:
            if i not in ends:
                _note(ends, i, partial(_report, runs[i], watches[i]))
        going = going_on(going)


def _report(run: Run, watch: Watch) -> None:
    """Keep a checkpoint of an epoch, then tell about it, as the loop does."""
    if watch.checkpoint is not None:
        run.save(watch.checkpoint)
    if watch.on_epoch is not None:
        watch.on_epoch(run.state.epoch, run.state.history[-1])


def _stop_if_asked(watch: Watch) -> None:
    if watch.asks_to_stop():
        raise Stopped("asked to stop")


def _note(ends: dict[int, Exception], place: int, call: Callable[[], None]) -> None:
    """Call something that may end one run and must not end the others."""
    try:
        call()
    except Exception as end:
        ends[place] = end


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
    members = [Member(architecture, training, seed) for seed in seeds]
    return [_fit_or_diverged(each) for each in train_stacked(members, store, preprocess=preprocess)]


def _fit_or_diverged(end: Fit | Exception) -> Fit | NotFinite:
    if isinstance(end, Fit | NotFinite):
        return end
    raise end


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
        compile_parts([*encoders.values(), fusion], runs[0].training.compile, device)
        self.model = StackedModel(
            models, encoders, fusion, StackedLinear([cast(nn.Linear, model.head) for model in models])
        ).to(device)

    def epoch(self, asked: Callable[[], bool]) -> dict[int, NotFinite]:
        """Train every run for an epoch and score it; return those that are not finite, by their place.

        Raises:
            Stopped: somebody asked.
        """
        first, start = self.runs[0], time.monotonic()
        for run, dice in zip(self.runs, self.dice, strict=True):
            dice.manual_seed(run.epoch_seed())
        number = first.state.epoch + 1
        done, rows = first.steps_before(number), first.rows_of(number)
        steps = first.steps_before(first.training.epochs + 1)
        sums = torch.zeros(len(self.runs), device=self.device)
        for step, batch in enumerate(first.batches(rows)):
            if asked():
                raise Stopped("asked to stop")
            sums += self.gradients(batch) * len(batch.rows)
            for run in self.runs:
                warm_up(run.optimizer, run.training, done + step, steps)
                run.optimizer.step()
        means = (sums / max(1, len(rows))).tolist()
        several = [len(self.runs)]
        found = predict_sources(self.model, first.feeds, first.store, first.tuning, self.device, stacked=several)
        seconds = (time.monotonic() - start) / len(self.runs)
        closed = [_close(*each, seconds) for each in zip(self.runs, means, found, strict=True)]
        return {place: failure for place, failure in enumerate(closed) if failure is not None}

    def gradients(self, batch: Batch) -> Tensor:
        """Give every model its gradients on a batch and return the losses. Shape: -> (K,)."""
        count, inputs, target = len(self.runs), move(batch.inputs, self.device), batch.target.to(self.device)
        begin_step(self.runs[0].training.compile)
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
        entry = {"epoch": float(epoch), "train_loss": loss, **run.judge(found)}
    except NotFinite as failure:
        return failure
    run.record(entry | share_entry(run.shares, epoch) | {"seconds": seconds})
    return None


def _goes_on(run: Run) -> bool:
    return run.state.epoch < run.training.epochs and not run.out_of_patience()


def _alone(fit: Fit) -> Fit:
    """Give a model weights of its own in place of views of the stacked ones, which would be kept alive."""
    for each in fit.model.parameters():
        each.data = each.data.clone()
    return fit

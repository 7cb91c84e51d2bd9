"""AutoFM's differentiable search: train the network of all architectures, decide, and hand the winners to the study."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from torch import Tensor

from encoders import ENCODERS
from experiments.config import StudyConfig
from experiments.data.batches import Batch, iterate_batches
from experiments.data.store import Store
from experiments.device import move, pick_device, seed_everything
from experiments.evaluate import predict_sources, squeeze_outputs
from experiments.feeding import preparations, sources
from experiments.loop import Run
from experiments.metrics import score
from experiments.progress import progress_bar
from experiments.search_config import SupernetConfig
from fusion import Architecture, FusionModel, Spec, UsageError
from fusion.autofm import AutoFMSupernet
from fusion.component import Choice, Float, Genome, Int, Range, build
from search.bilevel import Architect
from search.first import add_first
from search.settings import NONE, Setting
from search.space import Space
from search.supernet import Removal, best_paths, prune, random_path

_NAME = "autofm"
_TUNE = 0.1  # of the learning rate, after removals


@dataclass(frozen=True)
class Found:
    """What a network of all architectures led to, best first, and what it took; plain JSON data by `asdict`.

    `scores` are of the tuning split with the network's own weights: after pruning and tuning, or of single paths.
    `entropy` is how undecided the architecture parameters were before training and after each epoch, from 1 to 0.
    """

    architectures: tuple[dict[str, Any], ...]
    scores: tuple[float, ...]
    metric: str
    seconds: float
    epochs: int
    parameters: int
    entropy: tuple[float, ...]
    removals: tuple[dict[str, Any], ...] = ()


def warm_start(config: StudyConfig, study: optuna.Study, space: Space, store: Store, *, progress: bool = True) -> None:
    """Train the network of all architectures, unless this study has done so, and make what it found its first trials.

    They are trained from scratch like any other trial. The seconds it took count where the budget is in seconds.

    Raises:
        UsageError: the space has no `autofm` fusion.
    """
    settings = config.search.supernet
    if settings is None or "supernet" in study.user_attrs:
        return
    if _NAME not in space.fusion:
        raise UsageError("search.supernet needs 'autofm' among space.fusion")
    found = SupernetSearch(config, settings, space, store).run(config.folder / "supernet.safetensors", progress)
    study.set_user_attr("supernet", asdict(found))
    study.set_user_attr("spent_seconds", float(study.user_attrs.get("spent_seconds", 0.0)) + found.seconds)
    architectures = found.architectures[: config.search.trials]
    add_first(study, (space.fixed(Architecture.from_dict(each)) for each in architectures), "supernet")


class SupernetSearch:
    """One network of all architectures over the first encoder of each modality: its training, and what it decides."""

    def __init__(self, config: StudyConfig, settings: SupernetConfig, space: Space, store: Store) -> None:
        self.settings, self.seed, self.store, self.device = settings, config.seed, store, pick_device()
        seed_everything(self.seed, config.training.deterministic)
        encoders = {modality: _first(options) for modality, options in space.encoders.items()}
        self.dim = space.dim if isinstance(space.dim, int) else _least(space.dim)
        self.pinned = _pinned(space.fusion[_NAME])
        self.encoders = encoders
        plans = preparations(Architecture(encoders, Spec(_NAME), self.dim), config.data.preprocess)
        store.prepare(list(plans.values()))
        modules = {
            name: build(ENCODERS[name], encoders[name], store.preprocessor(plan), self.dim)
            for name, plan in plans.items()
        }
        self.supernet = AutoFMSupernet(list(encoders), self.dim, **self.pinned)
        self._narrow(space.fusion[_NAME])
        training = config.training.model_copy(update={"epochs": settings.epochs, "patience": settings.epochs})
        model = FusionModel(modules, self.supernet, self.dim, store.task.outputs, training.modality_dropout)
        model = model.to(self.device)
        feeds = sources(model, plans, store, ("train", "tuning"), self.device)
        self.loop = Run(model, store, training, self.seed, feeds, self.device)
        self.tuning = training.model_copy(update={"lr": training.lr * _TUNE})
        self.companion = _Bilevel(self) if settings.method == "bilevel" else _SinglePath(self.supernet, self.seed)

    def run(self, checkpoint: Path, progress: bool = True) -> Found:
        """Train, decide, and return what was found; training goes on from its checkpoint, deciding starts again."""
        start, entropy = time.monotonic(), [self.supernet.entropy()]
        self.loop.companion = self.companion
        self.loop.resume(checkpoint)
        spent = self.loop.state.seconds
        with progress_bar(f"{_NAME}: training all architectures", self.settings.epochs, enabled=progress) as advance:

            def on_epoch(_epoch: int, metrics: dict[str, float]) -> None:
                metrics.setdefault("entropy", self.supernet.entropy())
                entropy.append(metrics["entropy"])
                advance()

            self.loop.loop(on_epoch, None, checkpoint)
        self.loop.companion = None
        architectures, scores, removals = self._decide(progress)
        return Found(
            architectures=tuple(each.to_dict() for each in architectures),
            scores=tuple(scores),
            metric=self.loop.metric.name,
            seconds=spent + time.monotonic() - start,
            epochs=self.loop.state.epoch,
            parameters=sum(each.numel() for each in self.loop.model.parameters() if each.requires_grad),
            entropy=tuple(entropy),
            removals=tuple(asdict(each) for each in removals),
        )

    def score(self) -> float:
        """Score the network as it stands on the tuning split; more is better."""
        rows = self.loop.tuning
        found = predict_sources(self.loop.model, self.loop.feeds, self.store, rows, self.device)
        task = self.store.task
        metrics = score(task, self.store.cohort.targets[rows], squeeze_outputs(task, found))
        return float(metrics[self.loop.metric.name]) * self.loop.sign

    def _decide(self, progress: bool) -> tuple[list[Architecture], list[float], list[Removal]]:
        if self.settings.method == "single_path":
            found = best_paths(self.supernet, self.score, self.seed, paths=self.settings.paths, top=self.settings.top)
            sign = self.loop.sign
            return [self._architecture(path) for _, path in found], [sign * value for value, _ in found], []
        total = sum(len(names) - 1 for names in self.supernet.left.values())
        with progress_bar(f"{_NAME}: removing choices", total, enabled=progress) as advance:
            removals = prune(
                self.supernet,
                self.score,
                self._tune,
                self.seed,
                tune_every=self.settings.tune_every,
                on_removal=lambda _: advance(),
            )
        return [self._architecture(self.supernet.genes())], [self.loop.sign * self.score()], removals

    def _tune(self) -> None:
        """Train the weights for one more epoch with small steps."""
        self.loop.training = self.tuning
        self.loop.epoch(None)
        self.loop.state.epoch += 1

    def _architecture(self, genes: Mapping[str, Any]) -> Architecture:
        return Architecture(self.encoders, Spec(_NAME, {"genes": dict(genes), **self.pinned}), self.dim)

    def _narrow(self, settings: Mapping[str, Setting]) -> None:
        for setting in settings.values():
            if isinstance(setting, Genome):
                self.supernet.left |= {
                    gene: list(names) for gene, names in setting.genes(self.supernet.modalities, settings).items()
                }


class _Bilevel:
    """Moves architecture parameters by a batch of tuning patients before each step of the weights."""

    def __init__(self, search: SupernetSearch) -> None:
        self.search, settings = search, search.settings
        supernet = search.supernet
        self.architect = Architect[Batch](
            supernet.alpha,
            list(search.loop.model.parameters()),
            self._loss,
            bonus=(lambda: settings.diversity * supernet.diversity()) if settings.diversity else None,
            order=settings.order,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        self.passes = 0
        self.batches: Iterator[Batch] = iter(())

    def before_step(self, batch: Batch) -> None:
        """Move the architecture parameters."""
        group = self.search.loop.optimizer.param_groups[0]
        self.architect.step(batch, self._next(), lr=group["lr"], weight_decay=self.search.loop.training.weight_decay)

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {**self.architect.state(), "passes": self.passes}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.architect.restore(state)
        self.passes = int(state["passes"])

    def _loss(self, batch: Batch) -> Tensor:
        loop = self.search.loop
        logits = loop.model(move(batch.inputs, loop.device))
        return loop.strategies.criterion(logits, batch.target.to(loop.device))

    def _next(self) -> Batch:
        """Return the next batch of tuning patients, who are shuffled anew in each pass."""
        found = next(self.batches, None)
        while found is None:
            loop, self.passes = self.search.loop, self.passes + 1
            self.batches = iterate_batches(
                loop.feeds,
                loop.store.cohort.targets,
                loop.tuning,
                loop.training.batch_size,
                shuffle=self.search.seed + self.passes,
            )
            found = next(self.batches, None)
        return found


class _SinglePath:
    """Draws the one architecture that a step trains."""

    def __init__(self, supernet: AutoFMSupernet, seed: int) -> None:
        self.supernet, self.seed, self.steps = supernet, seed, 0

    def before_step(self, batch: Batch) -> None:  # noqa: ARG002 - the type of Companion
        """Draw."""
        self.steps += 1
        self.supernet.path = random_path(self.supernet, random.Random(self.seed * 1_000_003 + self.steps))

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {"steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.steps = int(state["steps"])


def _first(options: Mapping[str, Mapping[str, Setting]]) -> Spec:
    """Return the first encoder of a place with what is pinned; ranges are left at their defaults."""
    name = next(each for each in options if each != NONE)
    return Spec(name, _pinned(options[name]))


def _pinned(settings: Mapping[str, Setting]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not isinstance(value, Range)}


def _least(setting: Choice | Int | Float) -> int:
    return int(setting.options[0] if isinstance(setting, Choice) else setting.low)

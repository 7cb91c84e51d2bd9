"""The only training loop: batches of similar length, early stopping on the tuning split, resumable at every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.aim import Aim, aim_of_task
from experiments.averaging import WeightAverage
from experiments.checkpoint import Checkpoint, load_optimizer, optimizer_tensors, read_checkpoint, write_checkpoint
from experiments.companion import Companion
from experiments.compiling import begin_step
from experiments.config import TrainingConfig
from experiments.data.batches import Batch, iterate_batches
from experiments.data.shares import Shares, share_entry
from experiments.data.store import Store
from experiments.device import move
from experiments.evaluate import predict_sources, squeeze_outputs
from experiments.gradients import Learned, gradients
from experiments.memory import within_memory
from experiments.metrics import score
from experiments.optimizer import make_optimizer, set_pace, warm_up
from experiments.remote import Place
from experiments.strategies.blending import keep_back
from fusion import FusionModel

if TYPE_CHECKING:
    from experiments.ranks import Ranks

EpochReport = Callable[[int, dict[str, float]], None]
Rows = NDArray[np.int64]


class NotFinite(RuntimeError):
    """The loss or the score of a run is NaN or infinite, so that nothing it says can be trusted."""


class Stopped(RuntimeError):
    """The run was asked to stop; its checkpoint holds everything up to the last whole epoch."""


@dataclass
class State:
    """What a checkpoint holds besides weights."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


class Run:
    """One training run: the pieces the loop needs, so that its steps stay short; without an aim it learns the task."""

    def __init__(
        self,
        model: FusionModel,
        store: Store,
        training: TrainingConfig,
        seed: int,
        feeds: Mapping[str, Any],
        device: torch.device,
        aim: Aim | None = None,
    ) -> None:
        self.model, self.store, self.training, self.seed = model, store, training, seed
        self.feeds, self.device = feeds, device
        aim = aim or aim_of_task(model, store, training, device)
        self.metric, self.strategies, self.targets, self.measure = aim.metric, aim.strategies, aim.targets, aim.measure
        self.learned, self.tuning = aim.learned, aim.tuning
        self.sign = 1.0 if self.metric.higher_is_better else -1.0
        self.strategies.to(device)
        self.kept_back: Rows = np.empty(0, np.int64)
        if self.strategies.blend is not None:
            self.learned, self.kept_back = keep_back(self.learned, seed)
        self.optimizer = make_optimizer(model, self.strategies, training, device)
        self.trained = [each for owner in (model, self.strategies) for each in owner.parameters() if each.requires_grad]
        self.average = WeightAverage(training.average, training.average_decay, training.epochs // 2 + 1)
        self.companion: Companion | None = None
        self.shares: Shares | None = None
        self.ranks: Ranks | None = None
        self.at_once = training.batch_size
        self.state = State()

    def loop(self, on_epoch: EpochReport | None, should_stop: Callable[[], bool] | None, path: Place | None) -> None:
        """Train until the last epoch or until patience runs out."""
        if self.ranks is not None:
            self.ranks.agree([*trainable_state(self.model).values(), *self.strategies.state_dict().values()])
        for entry in self.state.history if on_epoch else []:
            on_epoch(int(entry["epoch"]), entry)  # type: ignore[misc]
        while self.state.epoch < self.training.epochs and not self.out_of_patience():
            start = time.monotonic()
            losses = self.epoch(should_stop)
            with self.average.applied(self.model):
                number = self.state.epoch + 1
                entry = {"epoch": float(number), **losses, **self.tune(), **share_entry(self.shares, number)}
                entry["seconds"] = time.monotonic() - start
                self.record(entry)
            if path is not None and (self.ranks is None or self.ranks.rank == 0):
                self.save(path)
            if on_epoch:
                on_epoch(self.state.epoch, entry)

    def out_of_patience(self) -> bool:
        """Tell whether the tuning score has not improved for `patience` epochs, of those on all patients."""
        since = self.state.best_epoch if self.shares is None else max(self.state.best_epoch, self.shares.last)
        return self.state.epoch - since >= self.training.patience

    def rows_of(self, epoch: int) -> Rows:
        """Return the rows that an epoch, counted from 1, learns from."""
        if self.shares is None:
            return self.learned
        return self.shares.rows(self.store.cohort.subject_ids, self.learned, epoch)

    def steps_before(self, epoch: int) -> int:
        """Return how many steps all epochs before this one, counted from 1, have taken."""
        lengths = (len(self.rows_of(each)) for each in range(1, epoch))
        return sum(math.ceil(length / self.training.batch_size) for length in lengths)

    def epoch(self, should_stop: Callable[[], bool] | None) -> dict[str, float]:
        """Go through the train split once and return the mean losses: all together, and each where there are several.

        Raises:
            NotFinite: the loss became NaN or infinite.
            Stopped: `should_stop` said so.
        """
        torch.manual_seed(self.epoch_seed())
        self.look()
        self.model.train()
        self.strategies.train()
        sums, seen = {"train_loss": torch.zeros((), device=self.device)}, 0
        done, steps = self.steps_before(self.state.epoch + 1), self.steps_before(self.training.epochs + 1)
        part = (self.ranks.rank, self.ranks.world) if self.ranks is not None else (0, 1)
        for step, batch in enumerate(self.batches(self.rows_of(self.state.epoch + 1), part=part)):
            if should_stop and should_stop():
                raise Stopped("asked to stop")
            warm_up(self.optimizer, self.training, done + step, steps)
            for name, value in self.step(batch).items():
                sums[name] = sums.get(name, 0.0) + value * batch.patients
            seen += batch.patients
            if (self.device.type == "cpu" or step % 16 == 0) and not sums["train_loss"].isfinite():
                raise NotFinite(
                    f"the loss is {float(sums['train_loss'])} in epoch {self.state.epoch + 1}, step {step + 1}"
                )
        self.strategies.end_epoch()
        if self.average.kind == "swa":
            self.average.after_epoch(self.state.epoch + 1, trainable_state(self.model))
        means = {name: float(total) / max(1, seen) for name, total in sums.items()}
        if not math.isfinite(means["train_loss"]):
            raise NotFinite(f"the loss is {means['train_loss']} in epoch {self.state.epoch + 1}")
        return means

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Update the weights on one batch, in parts if memory asks for it, and return its losses."""
        if self.companion is not None:
            self.companion.before_step(batch)
        wanted = min(self.at_once, len(batch.rows))
        found, fitting = within_memory(lambda at_once: self.learn(batch, at_once), wanted, self.device)
        if fitting < wanted:
            self.at_once = fitting
        if self.ranks is not None:
            found = self.ranks.merge(found, batch.patients, self.trained)
        set_pace(self.optimizer, self.strategies.adjust(dict(self.model.encoders.items()), found.confidence))
        nn.utils.clip_grad_norm_(self.trained, self.training.clip)
        self.optimizer.step()
        if self.ranks is not None:
            self.ranks.average_statistics(self.model)
        if self.average.kind == "ema":
            self.average.after_step(trainable_state(self.model))
        total = torch.stack(list(found.losses.values())).sum()
        named = {f"loss_{name}": each for name, each in found.losses.items()}
        return {"train_loss": total, **(named if len(named) > 1 else {})}

    def learn(self, batch: Batch, at_once: int) -> Learned:
        """Give the weights the gradients of a batch, of at most so many of its patients at once."""
        self.optimizer.zero_grad(set_to_none=True)
        begin_step(self.training.compile)
        parts: Iterable[Batch] = [batch]
        if at_once < len(batch.rows):
            parts = iterate_batches(self.feeds, self.targets, batch.rows.numpy(), at_once, shuffle=None)
        return gradients(self.model, self.strategies, parts, len(batch.rows), self.device)

    def epoch_seed(self) -> int:
        """Seed the dice of an epoch, so that a resumed one draws what it would have drawn; each rank has its own."""
        seed = _mix(self.seed, self.state.epoch)
        return seed if self.ranks is None or self.ranks.rank == 0 else _mix(seed, self.ranks.rank)

    def batches(self, rows: Rows, shuffle: bool = True, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield batches of rows, in an order that hangs on epoch and seed (the run's or `batch_order`) only."""
        seed = self.seed if self.training.batch_order is None else self.training.batch_order
        order = _mix(seed, self.state.epoch) if shuffle else None
        return iterate_batches(self.feeds, self.targets, rows, self.training.batch_size, shuffle=order, part=part)

    def look(self) -> None:
        """Compare the losses on rows learned from and rows kept back, where gradient blending is due to."""
        blend = self.strategies.blend
        if blend is None or not blend.due():
            return
        self.model.eval()
        self.strategies.eval()
        found = []
        learned = self.rows_of(self.state.epoch + 1)
        for rows in (learned[:: max(1, len(learned) // len(self.kept_back))], self.kept_back):
            sums: dict[str, Tensor] = {}
            for batch in self.batches(rows, shuffle=False):
                inputs, target = move(batch.inputs, self.device), batch.target.to(self.device)
                for name, value in self.strategies.look(self.model, inputs, target).items():
                    sums[name] = sums.get(name, 0.0) + value
            found.append({name: float(sums[name] / sums[f"{name} count"].clamp(min=1)) for name in blend.names})
        blend.update(*found)

    def tune(self) -> dict[str, float]:
        """Score the tuning split, or what else the aim measures."""
        if self.measure is not None:
            return self.measure(self)
        rows = self.tuning if self.ranks is None else self.ranks.part(self.tuning)
        found = predict_sources(self.model, self.feeds, self.store, rows, self.device)
        return self.judge(found if self.ranks is None else self.ranks.whole(found, len(self.tuning)))

    def judge(self, found: NDArray[np.float32]) -> dict[str, float]:
        """Score predictions (N, K) of the tuning split.

        Raises:
            NotFinite: the score is NaN or infinite.
        """
        task, targets = self.store.task, self.store.cohort.targets[self.tuning]
        metrics = score(task, targets, squeeze_outputs(task, found)) | self.strategies.measured(found)
        value = metrics[self.metric.name]
        if not math.isfinite(value):
            raise NotFinite(f"the tuning {self.metric.name} is {value} in epoch {self.state.epoch + 1}")
        return {"score": value, **{name: each for name, each in metrics.items() if math.isfinite(each)}}

    def record(self, entry: dict[str, float]) -> None:
        """Close an epoch: count it, and keep its weights if it is the best."""
        state = self.state
        state.epoch += 1
        state.seconds += entry["seconds"]
        state.history.append(entry)
        if self.is_best(entry):
            state.best_score, state.best_epoch = entry["score"] * self.sign, state.epoch
            state.best = {name: each.detach().cpu().clone() for name, each in trainable_state(self.model).items()}

    def is_best(self, entry: dict[str, float]) -> bool:
        """Tell whether an epoch is better than all before: by what interactions are tolerated, then by its score."""
        control, best = self.strategies.control, self.state.best_epoch
        order = control.order(entry, self.state.history[best - 1]) if control and best else 0
        return order > 0 or (order == 0 and entry["score"] * self.sign > self.state.best_score)

    def save(self, path: Place) -> None:
        """Write everything needed to go on after this epoch."""
        parts = {
            "model": trainable_state(self.model),
            "strategies": self.strategies.state_dict(),
            "average": self.average.weights,
            "best": self.state.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{part}.{name}": each for part, items in parts.items() for name, each in items.items()}
        state = {each.name: getattr(self.state, each.name) for each in fields(State) if each.name != "best"}
        beside = {"seed": self.seed, "averaged": self.average.count, "strategies": self.strategies.state()}
        if self.companion is not None:
            beside["companion"] = self.companion.state()
        write_checkpoint(path, Checkpoint(tensors, {"run": state, **beside}))

    def resume(self, path: Place | None) -> None:
        """Go on from a checkpoint if there is a whole one of this run."""
        found = read_checkpoint(path) if path is not None else None
        if found is None or found.state.get("seed") != self.seed:
            return
        for part, known in (("model", trainable_state(self.model)), ("strategies", self.strategies.state_dict())):
            if {n: t.shape for n, t in found.part(part).items()} != {n: t.shape for n, t in known.items()}:
                return
        self.model.load_state_dict(found.part("model"), strict=False)
        self.strategies.load_state_dict(found.part("strategies"))
        self.strategies.restore(found.state["strategies"])
        if self.companion is not None:
            self.companion.restore(found.state["companion"])
        self.average.count = found.state["averaged"]
        self.average.weights = {name: each.to(self.device) for name, each in found.part("average").items()}
        load_optimizer(self.optimizer, found.part("optimizer"))
        self.state = State(**found.state["run"], best=found.part("best"))


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state a run changes: trained parameters and buffers, without frozen weights."""
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    return {name: each for name, each in model.state_dict().items() if name not in frozen}


def _mix(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed % 2**63, epoch]).generate_state(1)[0])

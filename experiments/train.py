"""Training one architecture: what goes in, what comes out, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from encoders.preprocessor import Preparation
from experiments.compiling import check_compile, compile_parts
from experiments.config import TrainingConfig
from experiments.data.shares import Shares
from experiments.data.store import Store
from experiments.device import peak_memory_mb, pick_device, reset_peak_memory, seed_everything
from experiments.feeding import build_model, preparations, sources, with_molecules
from experiments.loop import EpochReport, NotFinite, Run, Stopped
from experiments.metrics import selection_metric
from experiments.pretraining.use import check_vocabularies
from experiments.remote import Place
from experiments.together import check_devices, together
from fusion import Architecture, FusionModel

if TYPE_CHECKING:
    from experiments.ranks import Seat

__all__ = ["EpochReport", "Fit", "NotFinite", "Stopped", "selection_metric", "train"]


@dataclass(frozen=True)
class Fit:
    """A trained model with the weights of its best epoch, and what training it took.

    `patients_at_once` is the size of a batch, or less where memory did not hold one.
    """

    model: FusionModel
    preparations: Mapping[str, Preparation]
    metric: str
    score: float
    best_epoch: int
    history: list[dict[str, float]]
    seconds: float
    parameters: int
    peak_memory_mb: float
    patients_at_once: int


def train(
    architecture: Architecture,
    store: Store,
    training: TrainingConfig,
    seed: int,
    *,
    preprocess: Mapping[str, Mapping[str, Any]] | None = None,
    on_epoch: EpochReport | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Place | None = None,
    on_model: Callable[[FusionModel, Mapping[str, Any]], None] | None = None,
    shares: Shares | None = None,
    place: Seat | None = None,
) -> Fit:
    """Train one architecture on the train split and keep the epoch that is best on the tuning split.

    `on_model` sees the network and what it is fed before anything is learned. With `shares` the first epochs learn from
    some patients only. The held-out split is never read. With a checkpoint path the run goes on where it was; epochs it
    had already done are reported again, first. Where it has several devices, this process starts one more for each and
    leads; those have a `place` of their own.

    Raises:
        NotFinite: the loss or the score became NaN or infinite.
        Stopped: `should_stop` said so.
        UsageError: a component or a setting that cannot be, or compiling without a GPU, or fewer devices than asked.
    """
    device = pick_device()
    check_compile(training.compile, device.type == "cuda")
    check_devices(training, device)
    seed_everything(seed, training.deterministic)
    reset_peak_memory(device)
    architecture = with_molecules(architecture, store)
    plans = preparations(architecture, preprocess or {})
    store.prepare(list(plans.values()))
    check_vocabularies(plans, store)
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    model = build_model(architecture, fitted, store.task.outputs, training.modality_dropout).to(device)
    feeds = sources(model, plans, store, ("train", "tuning"), device)
    if on_model is not None:
        on_model(model, feeds)
    compile_parts([*model.encoders.values(), model.fusion], training.compile, device)
    run = Run(model, store, training, seed, feeds, device)
    run.shares = shares
    parts = (store.dataset, store.cohort, store.config, store.cache)
    job = {"architecture": architecture, "store": parts, "training": training, "seed": seed}
    job |= {"preprocess": preprocess, "checkpoint": checkpoint, "shares": shares}
    with together(device, job, place) as run.ranks:
        run.resume(checkpoint)
        run.loop(on_epoch, should_stop, checkpoint)
    return finished(run, plans)


def finished(run: Run, plans: Mapping[str, Preparation]) -> Fit:
    """Return what a run came to, its model with the weights of the best epoch."""
    run.model.load_state_dict(run.state.best, strict=False)
    return Fit(
        model=run.model.eval(),
        preparations=plans,
        metric=run.metric.name,
        score=run.state.best_score * run.sign,
        best_epoch=run.state.best_epoch,
        history=run.state.history,
        seconds=run.state.seconds,
        parameters=sum(each.numel() for each in run.model.parameters() if each.requires_grad),
        peak_memory_mb=peak_memory_mb(run.device),
        patients_at_once=run.at_once,
    )

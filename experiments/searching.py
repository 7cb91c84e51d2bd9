"""Run a study from its configuration: data, storage, workers, live view, tracking, report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from experiments.checkpoint import remove_checkpoint
from experiments.compiling import check_compile
from experiments.config import StudyConfig
from experiments.costs import check_for_task
from experiments.engines import check_engine, make_engine
from experiments.live import LiveView, best_trial, describe
from experiments.slots import visible_gpus
from experiments.stackable import apart
from experiments.status import epochs_budget, has_live_worker, note_waiting, seconds_left
from experiments.studies import load_study, preparations_of, save_config, study_attributes, study_space, study_spec
from experiments.supernet import warm_start
from experiments.supervise import Ending, supervise
from experiments.together import check_library
from experiments.train import selection_metric
from experiments.whole import one_at_a_time
from experiments.workspace import open_store
from fusion import UsageError
from search.attempts import continue_stopped, is_over, promote
from search.objectives import maximises
from search.pruning import last_attempts
from search.samplers import sampler_note
from search.spending import Savings, is_spent, savings
from search.storage import STORAGE_ERRORS, storage_failed
from search.study import create_or_resume, issue_tickets, summary

if TYPE_CHECKING:
    from experiments.tracking.late import LateTracker
    from experiments.tracking.project import StudyTracker
    from experiments.tracking.runs import Connection


@dataclass(frozen=True)
class SearchResult:
    """How a search ended and the best it found."""

    name: str
    metric: str
    ending: Ending
    counts: Mapping[str, int]
    best: FrozenTrial | None
    report: Path
    savings: Savings
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the budget was spent and something was found."""
        return self.ending in _WHOLE and self.best is not None

    def render(self) -> str:
        """Return what to tell the user."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        lines = [f"{self.name}: {_ENDINGS[self.ending]} ({counts})"]
        if self.best is not None:
            lines.append(
                f"best tuning {self.metric} {self.best.values[0]:.4f}: trial {self.best.number}, {describe(self.best)}"
            )
        else:
            lines.append("no trial finished; the reasons are in the report")
        lines += [f"trained {self.savings}", f"report: {self.report}"]
        return "\n".join([*lines, *([self.problem] if self.problem else [])])


_WHOLE: tuple[Ending, ...] = ("complete", "budget", "exhausted")
_ENDINGS: Mapping[Ending, str] = {
    "complete": "all trials done",
    "budget": "the budget is spent",
    "exhausted": "the space has no candidate left that was not tried",
    "interrupted": "interrupted; the same command goes on where it was",
    "crashes": "stopped, because workers kept dying; their logs are in the study's folder",
}


def run_search(
    config: StudyConfig, workers: int | None = None, *, fresh: bool = False, live: bool = True
) -> SearchResult:
    """Run a study to the end of its budget, or go on with it.

    Raises:
        UsageError: the data or the space are not as declared, the study exists with another space, the storage or
            the tracker cannot be used, or the storage failed on the way.
    """
    space = study_space(config)
    check_compile(config.training.compile, bool(visible_gpus()))
    check_engine(config)
    check_library(config.training)
    note = sampler_note(config.search.sampler, space)
    for each in (note, apart(space, config.training) if config.search.stack > 1 else None):
        if each is not None:
            logging.getLogger("ehrfusion").warning(each)
    if fresh:
        _forget(config)
    store = open_store(config, progress=live)
    store.prepare(preparations_of(space, config), progress=live)
    metric = selection_metric(store.task, config.training)
    check_for_task(config.search.objectives, metric.name, store.task)
    attributes = study_attributes(config, space, store, metric.name)
    if config.tracking.enabled:
        _check_tracker(config)  # before anything is written
    with one_at_a_time(config.folder):  # two drivers must not issue tickets twice
        study = create_or_resume(study_spec(config), attributes, fresh=fresh)
        _check_counted(config, study)
        warm_start(config, study, space, store, progress=live)
        if config.search.trials is not None:
            issue_tickets(study, config.search.trials)
    save_config(config)
    tracker = _tracker(config, study)
    view = LiveView(
        config.name,
        metric.name,
        metric.higher_is_better,
        config.search.trials,
        seconds_left(config, study),
        config.search.epochs,
        config.search.flops,
        enabled=live,
    )
    try:
        ending = _supervise(config, study, workers, view, tracker)
        return _finish(config, study, ending, tracker)
    except STORAGE_ERRORS as error:
        raise UsageError(storage_failed(study_spec(config).storage, error)) from None


def _check_counted(config: StudyConfig, study: optuna.Study) -> None:
    if config.search.flops is not None and savings(study.get_trials(deepcopy=False)).unknown_flops:
        raise UsageError(
            f"study '{config.name}' has trained without counting operations, so search.flops cannot be its budget; "
            "give trials, epochs or seconds, or choose another name"
        )


def sync_study(config: StudyConfig) -> str:
    """Write everything a study did to MLflow, again or for the first time.

    Raises:
        UsageError: there is no such study, tracking is switched off, or the tracker does not answer.
    """
    study = load_study(config)
    if not config.tracking.enabled:
        raise UsageError(f"tracking is switched off in the configuration of '{config.name}'")
    tracker = _open_tracker(config, study)
    trials = study.get_trials(deepcopy=False)
    if has_live_worker(trials):
        taken = tracker.sync(trials)
    else:
        taken = tracker.finish(trials, status="KILLED" if _unfinished(study) else "FINISHED")
    if not taken:
        raise UsageError(tracker.problem or "the tracker did not take everything")
    return f"{config.name}: {len(trials)} trials are in {tracker.connection.shown}"


def _supervise(
    config: StudyConfig, study: optuna.Study, workers: int | None, view: LiveView, tracker: LateTracker | None
) -> Ending:
    left, trained = seconds_left(config, study), study.get_trials(deepcopy=False)
    if (left is not None and left <= 0) or is_spent(trained, epochs_budget(config, study), config.search.flops):
        return "budget"
    promoting = one_at_a_time(config.folder / "promoting")  # two drivers must not promote a trial twice
    with promoting:
        promote(study)
        continue_stopped(study)
    if config.search.trials is not None and not _unfinished(study):
        return "complete"

    engine = make_engine(config, study)

    def tick(trials: Sequence[FrozenTrial]) -> None:
        note_waiting(study, engine.note())
        view.update(trials, engine.note())
        if tracker is not None:
            tracker.sync(trials)

    def spent(seconds: float) -> None:
        study.set_user_attr("spent_seconds", float(study.user_attrs.get("spent_seconds", 0.0)) + seconds)

    with view:
        ending = supervise(
            study,
            engine,
            workers or config.search.workers or engine.places(),
            on_tick=tick,
            seconds=left,
            epochs=epochs_budget(config, study),
            flops=config.search.flops,
            on_spent=spent if left is not None else None,
            promoting=promoting,
            trial_seconds=config.search.trial_seconds,
        )
    return "exhausted" if ending == "complete" and config.search.trials is None else ending


def _unfinished(study: optuna.Study) -> bool:
    return any(not trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _finish(config: StudyConfig, study: optuna.Study, ending: Ending, tracker: LateTracker | None) -> SearchResult:
    trials = study.get_trials(deepcopy=False)
    for root, last in last_attempts(trials).items():
        if is_over(last):
            remove_checkpoint(config.folder / "checkpoints" / f"{root}.safetensors")
    report = write_study_report(config)
    problem = None
    if tracker is not None:
        status = "FINISHED" if ending in _WHOLE else "KILLED"
        tracker.finish(trials, status=status, files=[report])
        problem = tracker.problem
    best = best_trial(trials, maximises(study))
    return SearchResult(
        config.name, study.user_attrs["metric"], ending, summary(trials), best, report, savings(trials), problem
    )


def write_study_report(config: StudyConfig) -> Path:
    """Write the HTML report of a study into its folder and return where it is."""
    from experiments.study_report import study_report

    return study_report(load_study(config), config.folder / "report.html")


def connected(config: StudyConfig) -> Connection:
    """Reach the tracker of a study.

    Raises:
        UsageError: it does not answer.
    """
    from experiments.tracking.runs import connect

    return connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")


def _check_tracker(config: StudyConfig) -> None:
    """Refuse a tracker that cannot be used; one that is away may come back, and the search does not need it."""
    from experiments.tracking.runs import TrackerAway

    try:
        connected(config)
    except TrackerAway as away:
        logging.getLogger("ehrfusion").warning("%s; the search goes on without it", away)


def _tracker(config: StudyConfig, study: optuna.Study) -> LateTracker | None:
    if not config.tracking.enabled:
        return None
    from experiments.tracking.late import LateTracker

    return LateTracker(lambda: _open_tracker(config, study), config.name)


def _open_tracker(config: StudyConfig, study: optuna.Study) -> StudyTracker:
    from experiments.tracking.project import StudyTracker

    connection = connected(config)
    attributes = study.user_attrs
    names = ("data_fingerprint", "split_fingerprint", "git_commit", "metric")
    return StudyTracker(
        connection,
        attributes["study_key"],
        config.name,
        direction="maximize" if maximises(study) else "minimize",
        tags={name: attributes[name] for name in names},
        params=config.search.model_dump(mode="json", exclude={"storage"}),
        config=attributes["config"],
        objectives=attributes.get("objectives", ()),
        set_trial_attr=None,
    )


def _forget(config: StudyConfig) -> None:
    for name in ("checkpoints", "workers", "compare", "register"):
        shutil.rmtree(config.folder / name, ignore_errors=True)

"""Run a study from its configuration: data, storage, workers, live view, tracking, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from experiments.beginning import begun, prepare_study
from experiments.checkpoint import remove_checkpoint
from experiments.config import StudyConfig
from experiments.engines import make_engine
from experiments.live import LiveView, best_trial, describe
from experiments.status import epochs_budget, has_live_worker, note_waiting, seconds_left
from experiments.studies import load_study, study_spec
from experiments.supernet import warm_start
from experiments.supervise import Ending, supervise
from experiments.whole import one_at_a_time
from fusion import UsageError
from search.attempts import continue_stopped, is_over, promote
from search.objectives import maximises
from search.pruning import last_attempts
from search.spending import Savings, is_spent, savings
from search.storage import STORAGE_ERRORS, storage_failed
from search.study import summary

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
    prepared = prepare_study(config, live=live)
    metric = prepared.metric
    if config.tracking.enabled:
        _check_tracker(config)  # before anything is written
    with begun(config, prepared, fresh=fresh) as study:
        warm_start(config, study, prepared.space, prepared.store, progress=live)
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
            remove_checkpoint(config.checkpoint(root))
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

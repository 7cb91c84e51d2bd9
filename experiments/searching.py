"""Run a study from its configuration: data, storage, workers, live view, tracking, report."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from experiments.config import StudyConfig
from experiments.costs import check_for_task
from experiments.engine import LocalEngine
from experiments.live import LiveView, best_trial, describe
from experiments.slots import default_workers
from experiments.studies import load_study, preparations_of, save_config, study_attributes, study_space, study_spec
from experiments.supernet import warm_start
from experiments.supervise import Ending, supervise
from experiments.train import selection_metric
from experiments.whole import one_at_a_time
from experiments.worker import WorkerSpec
from experiments.workspace import open_store
from fusion import UsageError
from search.attempts import continue_stopped, promote
from search.objectives import maximises
from search.samplers import sampler_note
from search.spending import Savings, savings, trained_epochs
from search.study import create_or_resume, finished, issue_tickets, summary

if TYPE_CHECKING:
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
            the tracker does not answer.
    """
    space = study_space(config)
    note = sampler_note(config.search.sampler, space)
    if note is not None:
        logging.getLogger("ehrfusion").warning(note)
    if fresh:
        _forget(config)
    store = open_store(config, progress=live)
    store.prepare(preparations_of(space, config), progress=live)
    metric = selection_metric(store.task, config.training)
    check_for_task(config.search.objectives, metric.name, store.task)
    attributes = study_attributes(config, space, store, metric.name)
    if config.tracking.enabled:
        connected(config)  # before anything is written that would wait for it
    with one_at_a_time(config.folder):  # two drivers must not issue tickets twice
        study = create_or_resume(study_spec(config), attributes, fresh=fresh)
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
        _seconds_left(config, study),
        config.search.epochs,
        enabled=live,
    )
    workers = workers or config.search.workers or default_workers()
    ending = _supervise(config, study, workers, view, tracker)
    return _finish(config, study, ending, tracker)


def study_status(config: StudyConfig) -> str:
    """Say how far a study is, without starting anything."""
    study = load_study(config)
    trials = study.get_trials(deepcopy=False)
    counts = ", ".join(f"{count} {name}" for name, count in summary(trials).items() if count)
    best = best_trial(trials, maximises(study))
    lines = [f"{config.name}: {counts or 'no trials yet'}"]
    if best is not None:
        lines.append(
            f"best tuning {study.user_attrs['metric']} {best.values[0]:.4f}: trial {best.number}, {describe(best)}"
        )
    return "\n".join([*lines, f"{_reached(config, study)}; trained {savings(trials)}"])


def _reached(config: StudyConfig, study: optuna.Study) -> str:
    """Say how much of the budget is spent."""
    search, trials = config.search, study.get_trials(deepcopy=False)
    if search.trials is not None:
        return f"{finished(trials)} of {search.trials} trials"
    if search.epochs is not None:
        return f"{search.epochs - (_epochs_left(config, study) or 0.0):.0f} of {search.epochs} epochs"
    return f"{float(study.user_attrs.get('spent_seconds', 0.0)):.0f} of {search.seconds:.0f} s"


def sync_study(config: StudyConfig) -> str:
    """Write everything a study did to MLflow, again or for the first time.

    Raises:
        UsageError: there is no such study, tracking is switched off, or the tracker does not answer.
    """
    study = load_study(config)
    tracker = _tracker(config, study)
    if tracker is None:
        raise UsageError(f"tracking is switched off in the configuration of '{config.name}'")
    trials = study.get_trials(deepcopy=False)
    if not tracker.finish(trials):
        raise UsageError(tracker.problem or "the tracker did not take everything")
    return f"{config.name}: {len(trials)} trials are in {tracker.connection.shown}"


def _supervise(
    config: StudyConfig, study: optuna.Study, workers: int, view: LiveView, tracker: StudyTracker | None
) -> Ending:
    left, epochs = _seconds_left(config, study), _epochs_left(config, study)
    if (left is not None and left <= 0) or (epochs is not None and epochs <= 0):
        return "budget"
    promoting = one_at_a_time(config.folder / "promoting")  # two drivers must not promote a trial twice
    with promoting:
        promote(study)
        continue_stopped(study)
    if config.search.trials is not None and not _unfinished(study):
        return "complete"

    def tick(trials: Sequence[FrozenTrial]) -> None:
        view.update(trials)
        if tracker is not None:
            tracker.sync(trials)

    def spent(seconds: float) -> None:
        study.set_user_attr("spent_seconds", float(study.user_attrs.get("spent_seconds", 0.0)) + seconds)

    with view:
        ending = supervise(
            study,
            LocalEngine(_worker_spec(config, study)),
            workers,
            on_tick=tick,
            seconds=left,
            epochs=_epochs(config, study),
            on_spent=spent if left is not None else None,
            promoting=promoting,
            trial_seconds=config.search.trial_seconds,
        )
    return "exhausted" if ending == "complete" and config.search.trials is None else ending


def _worker_spec(config: StudyConfig, study: optuna.Study) -> WorkerSpec:
    return WorkerSpec(
        study=asdict(replace(study_spec(config), total_epochs=_epochs(config, study))),
        objective="experiments.objective:make_objective",
        space="experiments.studies:worker_space",
        settings=config.model_dump(mode="json"),
        slot=0,
        log=str(config.folder / "workers" / "worker-0.log"),
        driver=os.getpid(),
    )


def _unfinished(study: optuna.Study) -> bool:
    return any(not trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _epochs(config: StudyConfig, study: optuna.Study) -> int | None:
    """Return a budget in epochs, less what a network of all architectures took of it."""
    if config.search.epochs is None:
        return None
    return config.search.epochs - int((study.user_attrs.get("supernet") or {}).get("epochs", 0))


def _epochs_left(config: StudyConfig, study: optuna.Study) -> float | None:
    budget = _epochs(config, study)
    return None if budget is None else budget - trained_epochs(study.get_trials(deepcopy=False))


def _seconds_left(config: StudyConfig, study: optuna.Study) -> float | None:
    if config.search.seconds is None:
        return None
    return config.search.seconds - float(study.user_attrs.get("spent_seconds", 0.0))


def _finish(config: StudyConfig, study: optuna.Study, ending: Ending, tracker: StudyTracker | None) -> SearchResult:
    trials = study.get_trials(deepcopy=False)
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


def _tracker(config: StudyConfig, study: optuna.Study) -> StudyTracker | None:
    if not config.tracking.enabled:
        return None
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

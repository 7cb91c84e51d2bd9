"""Begin a study, or meet one that has begun: what drivers and workers started by hand do alike."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna

from experiments.compiling import check_compile
from experiments.config import StudyConfig
from experiments.costs import check_for_task
from experiments.data.store import Store
from experiments.engines import check_engine
from experiments.metrics import Metric
from experiments.remote import check_place, remove_remote
from experiments.slots import visible_gpus
from experiments.stackable import apart
from experiments.studies import preparations_of, save_config, study_attributes, study_space, study_spec
from experiments.together import check_library
from experiments.train import selection_metric
from experiments.whole import one_at_a_time
from experiments.workspace import open_store
from fusion import UsageError
from search.first import add_baselines
from search.locking import one_on_all_hosts
from search.samplers import sampler_note
from search.space import Space
from search.spending import savings
from search.storage import open_storage
from search.study import create_or_resume, issue_tickets


@dataclass(frozen=True)
class Prepared:
    """A study's space, data and metric."""

    space: Space
    store: Store
    metric: Metric


def prepare_study(config: StudyConfig, *, live: bool = False) -> Prepared:
    """Check what a study is made of and prepare its data.

    Raises:
        UsageError: the data or the space are not as declared.
    """
    space = study_space(config)
    check_compile(config.training.compile, bool(visible_gpus()))
    check_engine(config)
    check_library(config.training)
    if config.search.checkpoints is not None:
        check_place(config.search.checkpoints)
    note = sampler_note(config.search.sampler, space)
    for each in (note, apart(space, config.training) if config.search.stack > 1 else None):
        if each is not None:
            logging.getLogger("ehrfusion").warning(each)
    store = open_store(config, progress=live)
    store.prepare(preparations_of(space, config), progress=live)
    metric = selection_metric(store.task, config.training)
    check_for_task(config.search.objectives, metric.name, store.task)
    return Prepared(space, store, metric)


@contextmanager
def begun(config: StudyConfig, prepared: Prepared, *, fresh: bool = False) -> Iterator[optuna.Study]:
    """Create a study or open it; while one process is within, others of all hosts that would do the same wait.

    When it is left without an error, the study has its tickets and its settings are kept.

    Raises:
        UsageError: the study exists with another space, or the storage cannot be used.
    """
    attributes = study_attributes(config, prepared.space, prepared.store, prepared.metric.name)
    spec = study_spec(config)
    with one_at_a_time(config.folder):  # two must not issue tickets twice
        open_storage(spec.storage).close()  # a wrong address is one line
        with one_on_all_hosts(spec.storage, f"begin {config.name}"):
            study = create_or_resume(spec, attributes, fresh=fresh)
            if fresh:
                _forget(config)
            _check_counted(config, study)
            yield study
            if config.search.baselines:
                add_baselines(study, prepared.space, config.search.trials)
            if config.search.trials is not None:
                issue_tickets(study, config.search.trials)
    save_config(config)


def _check_counted(config: StudyConfig, study: optuna.Study) -> None:
    if config.search.flops is not None and savings(study.get_trials(deepcopy=False)).unknown_flops:
        raise UsageError(
            f"study '{config.name}' has trained without counting operations, so search.flops cannot be its budget; "
            "give trials, epochs or seconds, or choose another name"
        )


def _forget(config: StudyConfig) -> None:
    for name in ("checkpoints", "workers", "compare", "register"):
        shutil.rmtree(config.folder / name, ignore_errors=True)
    shared = config.checkpoint(0)
    if isinstance(shared, str):
        remove_remote(shared.rpartition("/")[0], recursive=True)
    elif config.search.checkpoints is not None:
        shutil.rmtree(shared.parent, ignore_errors=True)

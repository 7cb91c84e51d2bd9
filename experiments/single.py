"""Run one experiment: train one architecture, score it on the tuning split, track it."""

from __future__ import annotations

from experiments.config import ExperimentConfig
from experiments.feeding import check_architecture, preparations
from experiments.progress import progress_bar
from experiments.train import Fit, train
from experiments.workspace import git_commit, open_store
from fusion import UsageError
from search.failures import is_out_of_memory


def run_experiment(config: ExperimentConfig, *, progress: bool = True) -> Fit:
    """Train the architecture of an experiment and log it to MLflow; the held-out split is not touched.

    Raises:
        UsageError: an unknown component, data that are not as declared, or one patient too many for memory.
    """
    architecture = config.model.architecture()
    check_architecture(architecture)
    store = open_store(config, progress=progress)
    store.prepare(list(preparations(architecture, config.data.preprocess).values()), progress=progress)
    with progress_bar(config.name, config.training.epochs, enabled=progress) as advance:
        try:
            fit = train(
                architecture,
                store,
                config.training,
                config.seed,
                preprocess=config.data.preprocess,
                on_epoch=lambda _epoch, _metrics: advance(),
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(f"'{config.name}' ran out of memory, also with one patient at once") from None
    if config.tracking.enabled:
        tags = {
            "data_fingerprint": store.data_fingerprint,
            "split_fingerprint": store.cohort.split_fingerprint,
            "git_commit": git_commit(),
        }
        _log(config, fit, tags)
    return fit


def _log(config: ExperimentConfig, fit: Fit, tags: dict[str, str]) -> None:
    from experiments.tracking.runs import connect
    from experiments.tracking.single import log_single

    connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
    finals = {
        "score": fit.score,
        "seconds": fit.seconds,
        "parameters": fit.parameters,
        "peak_memory_mb": fit.peak_memory_mb,
    }
    params = {"seed": config.seed, **config.model.model_dump(), **config.training.model_dump()}
    log_single(connection, config.name, params, fit.history, finals, tags)

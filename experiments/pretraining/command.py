"""Pre-training as a command: data opened, progress shown, one MLflow run, and what is said in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from encoders.artefact import ABOUT, WEIGHTS
from experiments.config import Config
from experiments.data.store import Store
from experiments.loop import NotFinite
from experiments.pretrain_config import PretrainConfig
from experiments.pretraining.run import Pretrained, architecture_of, check_pretrain, finished, pretrain
from experiments.progress import progress_bar
from experiments.tracking.runs import Connection, connect
from experiments.tracking.single import log_single
from experiments.workspace import git_commit, open_store
from fusion import UsageError
from search.failures import is_out_of_memory


def run_pretraining(config: Config, *, fresh: bool = False, progress: bool = True) -> Iterator[str]:
    """Pre-train, track and yield what there is to say, line by line.

    Raises:
        UsageError: what is asked for cannot be, the tracker does not answer, the loss is not finite, or memory does not
            hold one patient.
    """
    settings = check_pretrain(config)
    connection = None
    if config.tracking.enabled:  # whoever does not answer says so before anything is trained
        connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
    store = open_store(config, progress=progress)
    if not fresh and (folder := finished(config, store)) is not None:
        yield f"{folder}: pre-trained so before; --fresh does it again"
        return
    with progress_bar(f"pre-training {config.name}", settings.epochs, enabled=progress) as advance:
        try:
            found = pretrain(config, store, on_epoch=lambda _epoch, _metrics: advance())
        except NotFinite as error:
            raise UsageError(f"pre-training '{config.name}': {error}; try a smaller pretrain.lr") from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(f"pre-training '{config.name}' ran out of memory, also with one patient at once") from None
    if connection is not None:
        _log(connection, config, settings, store, found)
    yield from _said(config, settings, found)


def _log(connection: Connection, config: Config, settings: PretrainConfig, store: Store, found: Pretrained) -> None:
    params = {"seed": config.seed, **settings.model_dump(mode="json")}
    finals = {"loss": found.loss, "seconds": found.seconds, "patients": found.patients, "best_epoch": found.best_epoch}
    tags = {
        "ehrfusion.kind": "pretraining",
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": store.cohort.split_fingerprint,
        "git_commit": git_commit(),
        **{f"artefact.{modality}": each for modality, each in found.fingerprints.items()},
    }
    # the list of patients is left behind: nobody's number leaves the folder, not even hashed
    files = {found.folder / modality / name: modality for modality in found.fingerprints for name in (ABOUT, WEIGHTS)}
    log_single(connection, f"{config.name}/{settings.folder}", params, found.history, finals, tags, files)


def _said(config: Config, settings: PretrainConfig, found: Pretrained) -> Iterator[str]:
    objectives = " + ".join(settings.objectives)
    yield (
        f"{config.name}: {objectives} on {found.patients:,} patients of the train split: loss {found.loss:.4f} at "
        f"epoch {found.best_epoch} of {found.epochs}, {found.seconds:.1f} s"
    )
    for pair, recall in found.recalls.items():
        yield _retrieved(pair, recall.value, recall.patients)
    for modality, spec in architecture_of(settings).encoders.items():
        where, short = Path(found.folder, modality), found.fingerprints[modality][:12]
        yield f"{modality} {spec.name}: use it as {{name: artefact, path: {where}}} ({short})"


def _retrieved(pair: str, value: float, patients: int) -> str:
    if patients < 2:
        return f"{pair}: no retrieval to speak of: {patients} of the patients that judge have both"
    return (
        f"{pair}: the nearest of {patients:,} patients is the right one in {value:.1%} (by chance {1 / patients:.1%})"
    )

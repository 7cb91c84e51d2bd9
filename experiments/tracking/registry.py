"""The model registry: register a bundle as a candidate, promote it to champion, find it again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from experiments.bundle import MANIFEST, bundle_folder, load_bundle
from experiments.data.folder import is_inside
from experiments.tracking.packaging import create_version, log_model, start_run
from experiments.tracking.runs import Connection, patience, why
from fusion.component import UsageError, unknown

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
PREFIX = "models:/"
COPIED = ("data_fingerprint", "split_fingerprint", "git_commit", "dataset", "label", "study", "seed")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: int
    run_id: str
    model_id: str

    @property
    def uri(self) -> str:
        """How to ask for exactly this version."""
        return f"{PREFIX}{self.name}/{self.version}"


@dataclass(frozen=True)
class Promoted:
    """Which version is champion now, and which was before."""

    name: str
    champion: int
    previous: int | None


def check_name(name: str) -> str:
    """Return a name the registry takes.

    Raises:
        UsageError: it is empty or has characters that mean something in `models:/NAME@ALIAS`.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}", name):
        raise UsageError(f"a model's name has letters, digits, '.', '_' and '-', at most 100; got '{name[:120]}'")
    return name


def register(
    bundle: Path,
    name: str,
    connection: Connection,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> Registered:
    """Register a bundle as the next version of a model, under the alias `candidate`.

    The model is code of this package with the bundle beside it: safetensors and JSON, which load with
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false. `tracking.columns` says which columns it takes; null is absent.

    Args:
        metrics: test metrics, written to the run, the logged model and the version's tags.
        tags: further tags of the run and the version.
        parent: the run this belongs to, usually the study's.

    Raises:
        UsageError: the bundle does not load, the name is not allowed, or the registry does not answer.
    """
    check_name(name)
    contract = load_bundle(bundle).contract
    every = {key: contract[key] for key in COPIED if contract.get(key) is not None} | dict(tags or {})
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    every |= {"ehrfusion.weights_sha256": manifest["sha256"]["weights.safetensors"]}
    with _answers(connection), patience(seconds=120, retries=2):
        run_id = start_run(connection, name, every, parent)
        try:
            model_id = log_model(bundle, name, connection, run_id)
            version = create_version(bundle, name, connection, run_id, model_id, every, metrics or {})
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                connection.client.set_terminated(run_id, "FAILED")
            raise
        connection.client.set_registered_model_alias(name, CANDIDATE, str(version))
        connection.client.set_terminated(run_id, "FINISHED")
    return Registered(name, version, run_id, model_id)


def promote(connection: Connection, name: str, which: int | str = CANDIDATE) -> Promoted:
    """Make a version (or what an alias points at) the champion; the champion until now becomes `previous`.

    Promoting `previous` goes back.

    Raises:
        UsageError: no such model, version or alias.
    """
    with _answers(connection), patience(seconds=30, retries=2):
        chosen = int(_find(connection, name, which).version)
        aliases = _aliases(connection, name)
        before = aliases.get(CHAMPION)
        if before == chosen:
            return Promoted(name, chosen, aliases.get(PREVIOUS))
        if before is not None:
            connection.client.set_registered_model_alias(name, PREVIOUS, str(before))
        connection.client.set_registered_model_alias(name, CHAMPION, str(chosen))
    return Promoted(name, chosen, before)


def resolve(model: str | Path, connection: Connection | None, destination: Path) -> Path:
    """Return the bundle folder a user means: a local one, or a registered model's, downloaded.

    Args:
        model: a folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        destination: an empty folder that a registered model is downloaded to.

    Raises:
        UsageError: there is no such folder, model, version or alias; names the nearest.
    """
    if not is_registered(model):
        return bundle_folder(model)
    if connection is None:
        raise UsageError(f"{model}: a registered model needs a tracker")
    name, which = parse(str(model))
    destination.mkdir(parents=True, exist_ok=True)
    with _answers(connection), patience(seconds=120, retries=2):
        found = _find(connection, name, which)
        where = mlflow.artifacts.download_artifacts(
            artifact_uri=connection.client.get_model_version_download_uri(name, found.version),
            dst_path=str(destination),
            tracking_uri=connection.uri,  # a models:/ address would ask the global tracker
        )
    flavor = Model.load(where).flavors.get("python_function", {})
    if "bundle" not in flavor.get("artifacts", {}):
        raise UsageError(f"{model}: was not registered by ehrfusion (it has no bundle)")
    bundle = Path(where) / str(flavor["artifacts"]["bundle"]["path"])
    if not is_inside(Path(where), bundle):
        raise UsageError(f"{model}: its MLmodel names a bundle outside the model; do not trust it")
    return bundle


def versions(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Return the versions of a registered model, newest first: number, aliases, tags (with test metrics), its card.

    Raises:
        UsageError: no such model, or the registry does not answer.
    """
    with _answers(connection), patience(seconds=30, retries=2):
        aliases = _aliases(connection, name)
        found = connection.client.search_model_versions(f"name = '{name}'", max_results=100)
    return [
        {
            "version": int(each.version),
            "aliases": sorted(alias for alias, version in aliases.items() if version == int(each.version)),
            "tags": dict(each.tags),
            "card": str(each.description),
        }
        for each in sorted(found, key=lambda each: -int(each.version))
    ]


def is_registered(model: str | Path) -> bool:
    """Tell whether a user means a registered model and not a folder."""
    return str(model).startswith(("models:/", "models:\\"))


def parse(uri: str) -> tuple[str, int | str]:
    """Split `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UsageError: it is written otherwise.
    """
    rest = uri.removeprefix(PREFIX).lstrip("/")
    name, at, alias = rest.rpartition("@")
    if at and name and alias:
        return name, alias
    name, slash, version = rest.rpartition("/")
    if slash and name and version.isdigit():
        return name, int(version)
    raise UsageError(f"a registered model is written models:/NAME@ALIAS or models:/NAME/VERSION; got '{uri}'")


class _answers:  # noqa: N801 - used as a context manager, like a function
    """Turn what MLflow and the network raise into one line."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MlflowException | OSError):
            raise UsageError(
                f"the model registry at {self.connection.shown} failed: {why(self.connection, error)}"
            ) from None


def _find(connection: Connection, name: str, which: int | str) -> ModelVersion:
    client = connection.client
    aliases = _aliases(connection, name)
    if isinstance(which, str) and not which.isdigit():
        if which not in aliases:
            raise unknown("alias", which, aliases, f"{PREFIX}{name}")
        which = aliases[which]
    try:
        return client.get_model_version(name, str(which))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    known = [str(each.version) for each in client.search_model_versions(f"name = '{name}'", max_results=100)]
    raise unknown("version", str(which), known, f"{PREFIX}{name}")


def _aliases(connection: Connection, name: str) -> dict[str, int]:
    check_name(name)
    try:
        model = connection.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [each.name for each in connection.client.search_registered_models(max_results=1000)]
        raise unknown("registered model", name, known, connection.shown) from None
    return {alias: int(version) for alias, version in model.aliases.items()}

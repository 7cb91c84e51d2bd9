"""What the estimators share: settings, reading a DataFrame with a patient a row, training, keeping."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from encoders.records import CodeEvents, Record, UnreadableImage
from experiments.bundle import Predictor, load_bundle, save_bundle
from experiments.config import ModelConfig, TrainingConfig
from experiments.device import pick_device
from experiments.feeding import check_architecture, preparations
from experiments.fitting import Fitting, Targets, fit_records, in_row
from experiments.sources.frames import columns_by_modality, frame_records
from experiments.sources.frames.columns import Columns
from experiments.strict import checked
from fusion.component import UsageError, unknown
from fusion.task import Task

_READS = {"codes": ("codes", "measurements"), "graph": ("codes", "measurements"), "notes": ("notes",)}
_READS["images"] = ("images",)
_DEFAULT = {"codes": "bag", "notes": "bag", "images": "conv"}


class Fusion(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share: how they are set, what they read, how they are kept."""

    def __init__(
        self,
        *,
        encoders: Mapping[str, Any] | None = None,
        fusion: str | Mapping[str, Any] = "early",
        dim: int = 32,
        columns: Columns | None = None,
        edges: Iterable[Sequence[str]] | None = None,
        epochs: int = 30,
        batch_size: int = 64,
        lr: float = 3e-3,
        patience: int = 10,
        tuning: float = 0.15,
        training: Mapping[str, Any] | None = None,
        preprocess: Mapping[str, Mapping[str, Any]] | None = None,
        random_state: Any = 0,
    ) -> None:
        """Keep the settings as they are; `fit` looks at them.

        Args:
            encoders: an encoder a modality, its name or a mapping with `name` and hyperparameters; without, `bag` for
                codes and measurements, `bag` for notes and `conv` for images, as far as there are columns.
            fusion: a fusion, likewise.
            dim: the width of the network.
            columns: the columns of codes, notes, images and measurements; without, `codes`, `notes` and `images` are
                what their name says, and every other column is a measurement.
            edges: facts (head, relation, tail) of the knowledge graph; what is above ICD codes is known without.
            epochs, batch_size, lr, patience: of the training loop; `training` has its further settings.
            tuning: the share of the rows that choose the epoch instead of being learned from.
            preprocess: options of the preparation of a modality, as `{"codes": {"max_events": 512}}`.
            random_state: a seed, or what scikit-learn takes for one.
        """
        self.encoders, self.fusion, self.dim = encoders, fusion, dim
        self.columns, self.edges = columns, edges
        self.epochs, self.batch_size, self.lr, self.patience = epochs, batch_size, lr, patience
        self.tuning, self.training, self.preprocess = tuning, training, preprocess
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the fitted model as a bundle, which `load`, `ehrfusion predict` and the registry read.

        Raises:
            UsageError: the folder holds something and `overwrite` is not set.
        """
        check_is_fitted(self)
        found: Predictor = self.predictor_
        params = {name: _plain(each) for name, each in self.get_params(deep=False).items() if name != "random_state"}
        about = {"estimator": {"params": params, "fitted": self._fitted()}}
        plans = preparations(found.architecture, self.preprocess or {})
        contract = {**found.contract, **about}
        parts = (found.model, found.architecture, found.task, found.preprocessors, plans, contract, found.metrics)
        return save_bundle(Path(folder), *parts, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what `save` wrote; nothing is unpickled.

        Raises:
            UsageError: the folder is no bundle, or one that another estimator wrote.
        """
        predictor = load_bundle(Path(folder), pick_device())
        about = predictor.contract.get("estimator")
        try:
            found = cls(**about["params"], random_state=predictor.contract["seed"])  # type: ignore[index]
            found._remember(dict(about["fitted"]), predictor)  # type: ignore[index]
        except (TypeError, KeyError, AttributeError, ValueError):
            raise UsageError(f"{folder}: no bundle that {cls.__name__}.save wrote") from None
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the network as the files of its bundle: safetensors and JSON, no pickled module."""
        state = dict(super().__getstate__())
        if "predictor_" in state:
            with tempfile.TemporaryDirectory() as place:
                folder = self.save(Path(place) / "bundle")
                state["predictor_"] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.get("predictor_")
        if files is not None:
            with tempfile.TemporaryDirectory() as place:
                for name, content in files.items():
                    (Path(place) / Path(name).name).write_bytes(content)
                state = {**state, "predictor_": load_bundle(Path(place), pick_device())}
        super().__setstate__(state)

    def _fitted(self) -> dict[str, Any]:
        names = getattr(self, "feature_names_in_", None)
        return {
            "kind": type(self).__name__,
            "columns": self.columns_,
            "features": self.n_features_in_,
            "names": None if names is None else names.tolist(),
            "history": self.history_,
        }

    def _remember(self, fitted: dict[str, Any], predictor: Predictor) -> None:
        if fitted["kind"] != type(self).__name__:
            raise ValueError("another estimator")
        self.predictor_, self.columns_, self.history_ = predictor, fitted["columns"], fitted["history"]
        self.n_features_in_ = int(fitted["features"])
        if fitted["names"] is not None:
            self.feature_names_in_ = np.array(fitted["names"], object)

    def _learn(self, X: Any, y: Targets, groups: Any, task: Task, metric: str) -> None:  # noqa: N803
        """Train on rows and keep the model; the metric chooses the epoch."""
        records = self._records(X, reset=True)
        check_consistent_length(records, y, groups)
        given = self.random_state
        seed = int(given if isinstance(given, int | np.integer) else check_random_state(given).randint(2**31 - 1))
        architecture = self._architecture()
        settings: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "patience": self.patience,
        }
        steps = -(-len(records) // max(1, int(self.batch_size))) * int(self.epochs)
        settings |= {"metric": metric, "warmup_steps": min(100, steps // 10), **(self.training or {})}
        training = checked(TrainingConfig, _plain(settings), "training")
        edges = [tuple(each) for each in self.edges or ()]
        fitting = Fitting(architecture, training, seed, float(self.tuning), self.preprocess, edges)  # type: ignore[arg-type]
        self.predictor_, self.history_ = fit_records(records, y, task, fitting, groups)

    def _architecture(self) -> Any:
        """Return the architecture the settings describe, for the modalities there are."""
        encoders = dict(self.encoders or {})
        if not encoders:
            encoders = {name: each for name, each in _DEFAULT.items() if set(_READS[name]) & set(self.columns_)}
        for modality in encoders:
            if modality not in _READS:
                raise unknown("modality", modality, _READS, "encoders")
            if not set(_READS[modality]) & set(self.columns_):
                known = " or ".join(_READS[modality])
                raise UsageError(f"encoders.{modality} reads {known}, but no column has them; name one in `columns`")
        model = checked(ModelConfig, _plain({"encoders": encoders, "fusion": self.fusion, "dim": self.dim}), "model")
        architecture = model.architecture()
        check_architecture(architecture)
        return architecture

    def _records(self, X: Any, *, reset: bool) -> list[Record]:  # noqa: N803
        """Return the records in a DataFrame, or in an array of numbers, each of whose columns is a measurement."""
        if not reset:
            check_is_fitted(self)
        if hasattr(X, "columns") and all(isinstance(name, str) for name in X.columns):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X):
                raise UsageError("X has no row: at least one is required")
            if reset:
                self.columns_ = columns_by_modality(list(X.columns), self.columns)
            return frame_records(X, self.columns_)
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")  # noqa: N806
        names = [str(name) for name in getattr(self, "feature_names_in_", [f"x{i}" for i in range(X.shape[1])])]
        if reset:
            self.columns_ = columns_by_modality(names, self.columns)
        if set(self.columns_) != {"measurements"}:
            raise UsageError("X is an array of numbers, but `columns` names codes, notes or images; give a DataFrame")
        chosen = [names.index(name) for name in self.columns_["measurements"]]
        return [_measured(np.array(names, object)[chosen], row) for row in X[:, chosen]]

    def _predicted(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the outputs of the network. Shape: N rows -> (N, K)."""
        records = self._records(X, reset=False)
        try:
            return np.asarray(self.predictor_.predict_records(records), np.float64)
        except UnreadableImage as error:
            raise in_row(error, records) from None


def target(estimator: BaseEstimator, y: Any) -> NDArray[Any]:
    """Return what is to be learned, checked as scikit-learn checks it. Shape: (N,)."""
    if y is None:
        raise UsageError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    found: NDArray[Any] = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
    return found


def _measured(names: NDArray[np.object_], row: NDArray[np.float64]) -> Record:
    there = ~np.isnan(row)
    return Record(CodeEvents(names[there], np.zeros(there.sum(), np.float32), row[there].astype(np.float32)))


def _plain(value: Any) -> Any:
    """Return settings as plain data: searches hand over numpy's numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value

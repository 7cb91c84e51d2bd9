"""A model bundle: a folder of safetensors and JSON with all that predicting needs; nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from encoders.molecules.head import MoleculeHead
from encoders.records import CodeEvents, Image, Note, Record, UnreadableImage
from encoders.weights import without_pretrained
from experiments.card import model_card
from experiments.data.folder import is_inside, read_json
from experiments.whole import whole_folder
from fusion.component import Architecture, Spec, UsageError
from fusion.criterion import activate
from fusion.model import FusionModel
from fusion.task import Task

if TYPE_CHECKING:
    from encoders.preprocessor import Preparation

FORMAT = 1
WEIGHTS, MODEL, CARD, MANIFEST = "weights.safetensors", "model.json", "card.md", "manifest.json"


@dataclass(frozen=True)
class Predictor:
    """A loaded bundle: the network in evaluation mode with its fitted preprocessors and data contract."""

    model: FusionModel
    architecture: Architecture
    task: Task
    preprocessors: Mapping[str, Any]
    contract: Mapping[str, Any]
    metrics: Mapping[str, Any]
    device: torch.device

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities the network reads."""
        return tuple(self.preprocessors)

    def predict_records(
        self,
        records: Iterable[Record],
        batch_size: int = 256,
        on_unreadable: Callable[[Path], None] | None = None,
    ) -> NDArray[np.float32]:
        """Predict patients, also those who lack modalities, have nothing, or have codes never seen.

        An image that cannot be read is an error, or is told to `on_unreadable` and treated as missing.

        Shape:
            N records -> (N, K) probabilities, or values in the target's unit.
        """
        remaining, parts = iter(records), [np.empty((0, self.task.outputs), np.float32)]
        while chunk := list(islice(remaining, batch_size)):
            parts.append(self._predict(chunk, on_unreadable))
        return np.concatenate(parts)

    @torch.no_grad()
    def _predict(self, records: list[Record], on_unreadable: Callable[[Path], None] | None) -> NDArray[np.float32]:
        from experiments.device import move

        inputs = {
            modality: collate_records(preprocessor, records, on_unreadable)
            for modality, preprocessor in self.preprocessors.items()
        }
        logits = self.model(move(inputs, self.device))
        found: NDArray[np.float32] = activate(self.task, logits).cpu().numpy().astype(np.float32)
        return found


def save_bundle(
    folder: Path,
    model: FusionModel,
    architecture: Architecture,
    task: Task,
    preprocessors: Mapping[str, Any],
    preparations: Mapping[str, Preparation],
    contract: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a bundle: weights, model.json, a model card and a manifest of checksums; whole or not at all.

    Args:
        contract: what the model is for and where it comes from: dataset, label, window_days, fingerprints of
            data and split, git_commit, versions, seed, training, cohort sizes.
        metrics: test metrics, each a number or a mapping with `value`, `low` and `high`.

    Raises:
        UsageError: the folder holds something and `overwrite` is not set.
    """
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{folder}: already exists; choose another folder")
    description = {
        "format": FORMAT,
        "architecture": _complete(architecture, model).to_dict(),
        "task": task.to_dict(),
        "preprocessors": {modality: each.to_dict() for modality, each in preprocessors.items()},
        "preparations": {
            modality: {"preprocessor": each.preprocessor.__name__, "options": dict(each.options)}
            for modality, each in preparations.items()
        },
        "contract": _plain({**contract, "parameters": sum(each.numel() for each in model.parameters())}),
        "metrics": _plain(metrics),
    }
    with whole_folder(folder) as temporary:
        save_model(model, str(temporary / WEIGHTS))
        (temporary / MODEL).write_text(json.dumps(description, indent=1), encoding="utf-8")
        (temporary / CARD).write_text(model_card(description), encoding="utf-8")
        sums = {name: _sha256(temporary / name) for name in (WEIGHTS, MODEL, CARD)}
        (temporary / MANIFEST).write_text(json.dumps({"format": FORMAT, "sha256": sums}, indent=1), encoding="utf-8")
    return folder


def _complete(architecture: Architecture, model: FusionModel) -> Architecture:
    """Add the molecules that a head found in the data it was trained on; a bundle is loaded without these."""
    if not isinstance(model.head, MoleculeHead):
        return architecture
    head = Spec(architecture.head.name, {**architecture.head.params, "molecules": model.head.molecules})
    return replace(architecture, head=head)


def load_bundle(folder: Path, device: str | torch.device = "cpu") -> Predictor:
    """Verify a bundle's checksums and rebuild its model; nothing is downloaded and nothing is unpickled.

    Raises:
        UsageError: the folder is no bundle, a file differs from the manifest, the format is another, or what is
            described cannot be built or asked.
    """
    verify(folder)
    description = read_json(folder / MODEL)
    try:
        found = _rebuilt(folder, description, torch.device(device))
        with tempfile.TemporaryDirectory() as images:  # what is described wrongly may show only when it is used
            found.predict_records([Record(), _made_up(Path(images) / "a.png")])
    except UsageError:
        raise
    except Exception as error:  # a checksum says who wrote a file, not that it makes sense
        raise UsageError(f"{folder / MODEL}: does not describe a model that works ({type(error).__name__})") from None
    return found


def _rebuilt(folder: Path, description: Mapping[str, Any], device: torch.device) -> Predictor:
    from experiments.feeding import build_model

    architecture, task = Architecture.from_dict(description["architecture"]), Task.from_dict(description["task"])
    preprocessors = _preprocessors(architecture, description["preprocessors"], folder)
    contract, metrics = dict(description["contract"]), dict(description["metrics"])
    _check_contract(folder, contract)
    with without_pretrained():
        model = build_model(architecture, preprocessors, task.outputs)
    try:
        load_model(model, str(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{folder / WEIGHTS}: does not fit the model this version builds ({reason})") from None
    return Predictor(model.eval().to(device), architecture, task, preprocessors, contract, metrics, device)


def _check_contract(folder: Path, contract: Mapping[str, Any]) -> None:
    """Check what predicting reads of a contract."""
    numbers = {name: contract.get(name) for name in ("window_days", "threshold")}
    for name, value in numbers.items():
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not right:
            raise UsageError(f"{folder / MODEL}: contract.{name} must be a number or null; got {value!r}")
    if contract.get("bad_images", "error") not in ("error", "missing"):
        raise UsageError(f"{folder / MODEL}: contract.bad_images must be error or missing")


def _made_up(image: Path) -> Record:
    """Return a patient who has something of everything."""
    Pillow.new("L", (8, 8)).save(image)
    codes = CodeEvents(("AGE", "LAB//a"), np.zeros(2, np.float32), np.array([50, np.nan], np.float32))
    return Record(codes, (Note("a cough", 1.0, "admission"),), (Image(image, 1.0, "PA"),))


def bundle_folder(model: str | Path) -> Path:
    """Return a model that is given as a folder.

    Raises:
        UsageError: there is no such folder.
    """
    if not Path(model).is_dir():
        raise UsageError(f"no bundle folder '{model}'; a registered model is written models:/NAME@ALIAS")
    return Path(model)


def verify(folder: Path) -> None:
    """Check every file of a bundle against its manifest.

    Raises:
        UsageError: the manifest is missing or unreadable, or a file is missing or differs; names the file.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{folder}: not a model bundle (it has no {MANIFEST})")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, sums = int(manifest["format"]), dict(manifest["sha256"])
    except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError):
        raise UsageError(f"{path}: not a readable manifest") from None
    if version != FORMAT:
        raise UsageError(f"{folder}: bundle format {version}; this version reads format {FORMAT}")
    for name in (WEIGHTS, MODEL, CARD):
        if name not in sums:
            raise UsageError(f"{path}: names no checksum of {name}")
        if not (folder / name).is_file():
            raise UsageError(f"{folder / name}: missing from the bundle")
        if not is_inside(folder, folder / name):
            raise UsageError(f"{folder / name}: a link that leads out of the bundle")
        if _sha256(folder / name) != sums[name]:
            raise UsageError(f"{folder / name}: differs from the bundle's manifest (sha256); do not trust this bundle")


def collate_records(preprocessor: Any, records: list[Record], on_unreadable: Callable[[Path], None] | None) -> Any:
    """Return the inputs of one modality for some patients, those who lack it masked."""
    from experiments.data.pack import pack_records

    while True:
        try:
            packed, row_index = pack_records(preprocessor, records)
            return preprocessor.collate(packed, row_index)
        except UnreadableImage as error:
            if on_unreadable is None:
                raise
            on_unreadable(error.path)
            records = [_without_image(record, error.path) for record in records]


def _without_image(record: Record, path: Path) -> Record:
    return replace(record, images=tuple(image for image in record.images if image.path != path))


def _preprocessors(architecture: Architecture, saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    from encoders import ENCODERS
    from fusion.component import find, unknown

    found = {}
    for modality, spec in architecture.encoders.items():
        if modality not in ENCODERS:
            raise unknown("modality", modality, ENCODERS, str(folder))
        encoder: Any = find(ENCODERS[modality], spec, f"{folder}: encoders.{modality}")
        found[modality] = encoder.preprocessor.from_dict(saved[modality])
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """Return what strict JSON can hold: numbers that are none become null, other things texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)

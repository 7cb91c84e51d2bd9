"""A pre-trained encoder from `ehrfusion pretrain`: its folder, its preprocessor, and the encoder that uses it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from encoders.packed import Packed
from encoders.records import CodeEvents, Knowledge, Note, Record
from encoders.weights import fetch_pretrained, without_pretrained
from fusion.component import Choice, Float, Spec, UsageError, build, find
from fusion.layers import masked_mean
from fusion.tokens import Tokens, present

FORMAT = 1
ABOUT, WEIGHTS = "encoder.json", "weights.safetensors"


@dataclass(frozen=True)
class ArtefactInputs:
    """The preprocessor of a pre-trained encoder, as it was fitted in pre-training; nothing is fitted anew.

    `about` is what the folder says of the encoder, and `fingerprint` a hash of that; it holds a hash of the weights.
    """

    about: Mapping[str, Any]
    fingerprint: str

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],  # noqa: ARG003 - part of the protocol
        knowledge: Knowledge,  # noqa: ARG003
        *,
        path: str = "",
    ) -> Self:
        """Read the preprocessor from a folder.

        Raises:
            UsageError: the folder holds no pre-trained encoder, or a damaged one.
        """
        found = cls(read_about(path), fingerprint(path))
        try:
            _ = found.inner.columns()
            found.inner.encode(found._made_up())  # what is described wrongly may show only when it is used
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{Path(path) / ABOUT}: its preprocessor is damaged ({type(error).__name__})") from None
        return found

    def _made_up(self) -> Record:
        """Return a patient who has something to read, also a code that is known."""
        codes = ("", *self.codes[-1:])
        events = CodeEvents(codes, np.zeros(len(codes), np.float32), np.ones(len(codes), np.float32))
        return Record(events, (Note("a cough", 1.0, "admission"),))

    @classmethod
    def depends_on(cls, options: Mapping[str, Any]) -> str:
        """Return what prepared tensors hang on beside the path: the content there."""
        return fingerprint(str(options["path"]))

    @classmethod
    def agree(cls, modality: str, options: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Check that a pre-trained encoder reads a modality, and prepares records as the user says.

        Raises:
            UsageError: it reads another, or was pre-trained on records that were prepared differently.
        """
        path = str(options["path"])
        about = read_about(path)
        if about["modality"] != modality:
            raise UsageError(f"encoders.{modality}: {path} is a pre-trained encoder of {about['modality']}")
        mine = about["preprocessor"]["options"]
        for name, value in wanted.items():
            if name in mine and mine[name] != value:
                raise UsageError(
                    f"preprocess.{modality}.{name} is {value!r}, and {path} was pre-trained with {mine[name]!r}; "
                    "leave it out, or pre-train anew"
                )

    @cached_property
    def component(self) -> Any:
        """The class of the encoder that was pre-trained."""
        from encoders import ENCODERS  # it holds the encoder below

        about = self.about
        return find(ENCODERS[about["modality"]], Spec.parse(about["encoder"]), f"encoders.{about['modality']}")

    @cached_property
    def inner(self) -> Any:
        """The preprocessor that was fitted in pre-training."""
        return self.component.preprocessor.from_dict(self.about["preprocessor"]["data"])

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes it knows, where it knows any."""
        return getattr(self.inner, "codes", ())

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return self.inner.columns()

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Return the columns of one record."""
        return self.inner.encode(record)

    def collate(self, packed: Packed, rows: Tensor) -> Any:
        """Gather rows (B,) into padded inputs."""
        return self.inner.collate(packed, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"about": dict(self.about), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(data["about"], data["fingerprint"])


class Artefact(nn.Module):
    """An encoder with the weights and the vocabulary of `ehrfusion pretrain`: fine-tuned, frozen, or as a probe.

    Frozen, its features are the same every epoch and are computed once; a layer maps them to the width of the model. A
    probe is frozen too, and gives one vector a patient, the mean of its tokens, to a linear layer alone. Fine-tuned
    with its own width it is the encoder itself, with another a linear layer follows.

    Shape:
        Inputs of the encoder, or cached features Tokens (B, T, F) -> Tokens (B, T, D); a probe (B, 1, D).

    Raises:
        UsageError: the folder is no artefact, or not the one that its preprocessor comes from.

    Reference:
        Erhan et al., Why Does Unsupervised Pre-training Help Deep Learning?, 2010; the probe after Alain, Bengio,
        Understanding intermediate layers using linear classifier probes, 2016.
    """

    preprocessor: ClassVar[type] = ArtefactInputs

    def __init__(
        self,
        preprocessor: ArtefactInputs,
        dim: int,
        *,
        path: str = "",
        use: Annotated[str, Choice("fine_tune", "frozen", "probe", searched=False)] = "fine_tune",
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.frozen, self.probe, self.made_by = use != "fine_tune", use == "probe", preprocessor.fingerprint
        self.inner = _rebuilt(preprocessor, path)
        self.inner.requires_grad_(not self.frozen)
        width = int(preprocessor.about["dim"])
        layers: list[nn.Module] = []
        if self.frozen and not self.probe:
            layers += [nn.LayerNorm(width), nn.Dropout(dropout)]
        if self.frozen or width != dim:
            layers.append(nn.Linear(width, dim))
        self.adapt = nn.Sequential(*layers)
        self.train(self.training)

    def backbone(self) -> nn.Module:
        """Return the pre-trained encoder, whose weights a frozen one's cache is keyed by."""
        return self.inner

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is trained; what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.inner.eval()
        return self

    def features(self, inputs: Any) -> Tokens:
        """Return the encoder's tokens, of a probe their mean; its weights ask for no gradient, gates of inputs may.

        Shape:
            -> Tokens (B, T, F).
        """
        values, mask = self.inner(inputs)
        if not self.probe:
            return Tokens(values, mask)
        return Tokens(masked_mean(values, mask).unsqueeze(1), present(mask).unsqueeze(1))

    def forward(self, inputs: Any) -> Tokens:
        """Encode each patient, or adapt features computed before."""
        if isinstance(inputs, Tokens):
            values, mask = inputs
        else:
            values, mask = self.features(inputs) if self.frozen else self.inner(inputs)
        return Tokens(self.adapt(values), mask)


def read_about(path: str) -> dict[str, Any]:
    """Read what the folder of a pre-trained encoder says.

    Raises:
        UsageError: there is no such folder, or it is damaged, of another format or leads elsewhere.
    """
    if not path:
        raise UsageError("encoder 'artefact' needs a path; write {name: artefact, path: runs/NAME/pretrained/codes}")
    file = _member(path, ABOUT)
    if not file.is_file():
        raise UsageError(f"{path}: not a pre-trained encoder (it has no {ABOUT}); make one with: ehrfusion pretrain")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        version, _ = about["format"], (about["modality"], about["encoder"]["name"], int(about["dim"]))
        _ = about["preprocessor"]["data"], about["preprocessor"]["options"], about["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not readable as a pre-trained encoder ({type(error).__name__})") from None
    if version != FORMAT:
        raise UsageError(f"{file}: format {version}; this version reads format {FORMAT}")
    if about["encoder"]["name"] == "artefact":
        raise UsageError(f"{file}: its encoder is an artefact itself, from another folder; pre-train anew")
    return about


def _member(path: str, name: str) -> Path:
    """Return a file of an artefact; the folder may be a link, what lies in it may not lead elsewhere."""
    file = Path(path) / name
    if file.resolve() != Path(path).resolve() / name:
        raise UsageError(f"{file}: a link that leads out of the artefact")
    return file


def fingerprint(path: str) -> str:
    """Hash all that a pre-trained encoder is: its description, in which the hash of the weights stands."""
    about = json.dumps(read_about(path), sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _rebuilt(preprocessor: ArtefactInputs, path: str) -> nn.Module:
    """Build the encoder and load its weights, unless those of a saved model are about to be loaded."""
    about = preprocessor.about
    with without_pretrained():
        inner = _built(about, preprocessor, path)
    if not fetch_pretrained():
        return inner
    if fingerprint(path) != preprocessor.fingerprint:
        raise UsageError(f"{path}: changed since the data were prepared for it; start again")
    file = _member(path, WEIGHTS)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{file}: not readable ({type(error).__name__})") from None
    if weights_digest(tensors) != about["sha256"]:
        raise UsageError(f"{file}: differs from what {ABOUT} says (sha256); do not trust it, and pre-train anew")
    try:
        inner.load_state_dict(tensors)
    except RuntimeError:
        raise UsageError(f"{file}: does not fit the encoder that this version builds; pre-train anew") from None
    return inner


def _built(about: Mapping[str, Any], preprocessor: ArtefactInputs, path: str) -> nn.Module:
    from encoders import ENCODERS

    try:
        spec, width = Spec.parse(about["encoder"]), int(about["dim"])
        return build(ENCODERS[about["modality"]], spec, preprocessor.inner, width)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        if isinstance(error, UsageError):
            raise
        why = f"describes no encoder that can be built ({type(error).__name__})"
        raise UsageError(f"{Path(path) / ABOUT}: {why}") from None

"""Preprocessors: everything learned from data that is no weight, and which one an encoder wants."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, get_type_hints, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.packed import Packed
from encoders.records import Knowledge, Record
from fusion.component import Spec, check_type, find, unknown


@runtime_checkable
class Preprocessor(Protocol):
    """A frozen dataclass a modality: fitted on training records, written as JSON, never pickled."""

    @classmethod
    def fit(cls, records: Iterable[Record], knowledge: Knowledge) -> Self:
        """Learn from training records; further keyword-only parameters of `fit` are its options."""
        ...

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Return the columns of one record, all of one length, or None where the modality is missing."""
        ...

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        ...

    def collate(self, packed: Packed, rows: Tensor) -> Any:
        """Gather rows (B,) of the packed columns into this modality's Inputs; row -1 is absent."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data that `from_dict` reads back."""
        ...

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        ...


@dataclass(frozen=True)
class Preparation:
    """Which preprocessor, with which options, prepares a modality for an encoder."""

    modality: str
    preprocessor: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A short name that is the same for the same modality, preprocessor and options."""
        text = json.dumps([self.modality, self.preprocessor.__name__, dict(self.options)], sort_keys=True)
        return f"{self.modality}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def content(self) -> str:
        """What else the preprocessor hangs on, as the content of a file that an option names."""
        depends_on = getattr(self.preprocessor, "depends_on", None)
        return str(depends_on(self.options)) if depends_on is not None else ""


def preparation(
    catalogue: Mapping[str, type], modality: str, spec: Spec, options: Mapping[str, Any] | None = None
) -> Preparation:
    """Find how records must be prepared for an encoder.

    An option of `fit` comes from the user's preprocessing options of the modality, or from the encoder's
    hyperparameter of the same name (a tokenizer must know which model it serves). A preprocessor that was fitted before
    may not agree with the user's options.

    Raises:
        UsageError: unknown encoder, hyperparameter or option, or an option of another type.
    """
    where = f"encoders.{modality}"
    encoder: Any = find(catalogue, spec, where)
    known = _fit_options(encoder.preprocessor)
    every = {name: kind for each in catalogue.values() for name, kind in _fit_options(_preprocessor(each)).items()}
    for name, value in (options or {}).items():
        if name not in every:
            raise unknown("preprocessing option", name, every, f"preprocess.{modality}")
        check_type(f"preprocess.{modality}.{name}", known.get(name, every[name]), value)
    chosen = {name: value for name, value in (options or {}).items() if name in known}
    defaults = inspect.signature(encoder).parameters
    for name in known.keys() & set(defaults):
        chosen[name] = spec.params.get(name, defaults[name].default)
    agree = getattr(encoder.preprocessor, "agree", None)
    if agree is not None:
        agree(modality, chosen, options or {})
    return Preparation(modality, encoder.preprocessor, chosen)


def _preprocessor(encoder: Any) -> Any:
    return encoder.preprocessor


def _fit_options(preprocessor: Any) -> dict[str, Any]:
    """Return the options of a preprocessor's `fit` and their types."""
    hints = get_type_hints(preprocessor.fit)
    parameters = inspect.signature(preprocessor.fit).parameters.values()
    return {each.name: hints[each.name] for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}

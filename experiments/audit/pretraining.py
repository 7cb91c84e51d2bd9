"""The list of patients beside pre-trained weights, by which an audit tells whether test patients were among them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.whole import whole_file
from fusion.component import UsageError

FORMAT = 1
_LENGTH = 24  # hexadecimal digits of a patient's hash: a million patients share none by chance


@dataclass(frozen=True)
class Pretraining:
    """Which patients of which source weights were pre-trained on; patients are salted hashes of their numbers."""

    source: str
    salt: str
    patients: frozenset[str]

    def among(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some patients that the weights were pre-trained on. Shape: (n,) -> (m,), distinct."""
        distinct = np.unique(subjects)
        known = [each in self.patients for each in patient_hashes(distinct, self.salt)]
        return distinct[np.array(known, bool)]


def pretraining_file(weights: Path) -> Path:
    """Return where the list of a folder or file of weights belongs: inside the folder, beside the file."""
    return weights / "pretraining.json" if weights.is_dir() else weights.with_name(f"{weights.name}.pretraining.json")


def write_pretraining(weights: Path, subjects: NDArray[np.int64], source: str, *, salt: str | None = None) -> Path:
    """Write the list of the patients that weights were pre-trained on, and return its path.

    The salt is drawn anew unless one is given. It keeps lists of different weights from being matched with each other;
    it does not hide small numbers from somebody who tries them all, so the list belongs where the weights may go.

    Args:
        source: the `dataset_name` of the patients' folder, because other sources number other people alike.
    """
    salt = salt or secrets.token_hex(16)
    found = {"format": FORMAT, "source": source, "salt": salt, "patients": sorted(patient_hashes(subjects, salt))}
    path = pretraining_file(weights)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def read_pretraining(path: Path) -> Pretraining:
    """Read the list.

    Raises:
        UsageError: it is not such a list.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version, found = data["format"], Pretraining(data["source"], data["salt"], frozenset(data["patients"]))
        bytes.fromhex(found.salt)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a list of pre-training patients ({type(error).__name__}: {error})") from None
    if version != FORMAT:
        raise UsageError(f"{path}: format {version}; this version reads format {FORMAT}")
    return found


def patient_hashes(subjects: NDArray[np.int64], salt: str) -> Sequence[str]:
    """Hash distinct patient numbers with a salt."""
    key = bytes.fromhex(salt)
    numbers = np.unique(np.asarray(subjects, np.int64)).tolist()
    return [hashlib.sha256(key + number.to_bytes(8, "little", signed=True)).hexdigest()[:_LENGTH] for number in numbers]

"""Checkpoints: one safetensors file with JSON beside the tensors, written atomically and verified; never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from experiments.remote import Place, read_remote, remove_remote, replace_remote
from experiments.whole import whole_file


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and plain JSON state."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with `prefix.`, without it."""
        start = prefix + "."
        return {name.removeprefix(start): each for name, each in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Place, checkpoint: Checkpoint) -> None:
    """Write beside the target, sync, keep the previous file as `.previous`, then rename: a kill or a full disk
    leaves the old one whole. At a URL the previous one is copied, then the file is replaced."""
    tensors = {name: each.detach().cpu().contiguous() for name, each in checkpoint.tensors.items()}
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    content = save(tensors, {"state": json.dumps(dict(checkpoint.state)), "sha256": digest.hexdigest()})
    if isinstance(path, str):
        replace_remote(path, str(previous(path)), content)
        return
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            path.replace(previous(path))


def read_checkpoint(path: Place) -> Checkpoint | None:
    """Read the newest whole checkpoint: the file, else the previous one, else None."""
    for candidate in (path, previous(path)):
        found = _read_one(candidate)
        if found is not None:
            return found
    return None


def remove_checkpoint(path: Place) -> None:
    """Forget a checkpoint that is no longer needed."""
    for each in (path, previous(path)):
        if isinstance(each, str):
            remove_remote(each)
        else:
            each.unlink(missing_ok=True)


def previous(path: Place) -> Place:
    """Return where the last but one checkpoint is kept."""
    return path + ".previous" if isinstance(path, str) else path.with_name(path.name + ".previous")


def _read_one(place: Place) -> Checkpoint | None:
    if isinstance(place, Path):
        return _read_file(place)
    content = read_remote(place)
    if content is None:
        return None
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return _read_file(Path(file.name))


def _read_file(path: Path) -> Checkpoint | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    if digest.hexdigest() != metadata.get("sha256"):
        return None
    return Checkpoint(tensors, json.loads(metadata["state"]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimizer's tensors to `index.name`; its settings are rebuilt from the configuration."""
    found: dict[str, Tensor] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            found[f"{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return found


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put flattened tensors back into an optimizer built the same way."""
    state: dict[int, dict[str, Tensor]] = {}
    for index, name, value in _indexed(tensors):
        state.setdefault(index, {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _indexed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[int, str, Tensor]]:
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        yield int(index), name, value

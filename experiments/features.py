"""Features of frozen encoders: computed once, kept as memory-mapped bf16 safetensors, shared by all trials."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from encoders.packed import Packed
from encoders.preprocessor import Preparation
from experiments.data.store import Store
from experiments.device import move
from experiments.whole import scratch, whole_file
from fusion.component import UsageError
from fusion.tokens import Tokens

_BATCH = 64
_TENSORS = ("offsets", "position", "values")  # in the order of the file
_AGAIN = "remove the file, and it is made again"


@dataclass(frozen=True)
class FeatureSource:
    """Cached token features by cohort row; a row without the modality has none.

    Shape:
        packed column `values` (N, F) bf16; position (cohort rows,) int64, -1 where absent.
    """

    packed: Packed
    position: Tensor

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of tokens of each row. Shape: (B,) -> (B,)."""
        return self.packed.lengths(self.position[rows])

    def collate(self, rows: Tensor) -> Tokens:
        """Gather the features of rows (B,) as Tokens (B, T, F)."""
        columns, mask = self.packed.pad(self.position[rows])
        return Tokens(columns["values"].float(), mask)


def feature_source(
    encoder: Any, plan: Preparation, store: Store, splits: tuple[str, ...], device: torch.device
) -> FeatureSource:
    """Open the features of a frozen encoder for the rows of some splits, computing what is not there yet.

    The files are named by a hash of the frozen weights and of the prepared data, so neither can go stale.
    """
    parts = [_open(encoder, plan, store, split, device) for split in splits]
    values = [part.packed.columns["values"] for part in parts]
    packed = parts[0].packed if len(parts) == 1 else _join([part.packed for part in parts], values)
    position = torch.full_like(parts[0].position, -1)
    start = 0
    for part in parts:
        there = part.position >= 0
        position[there] = part.position[there] + start
        start += len(part.packed.offsets) - 1
    return FeatureSource(packed, position)


def backbone_digest(backbone: nn.Module) -> str:
    """Hash the weights and buffers of a frozen backbone."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def features_key(encoder: Any) -> str:
    """Hash what features depend on beside the inputs: frozen weights, the network's make, the encoder's settings.

    Settings are the encoder's plain attributes, as `stride`; the network's text tells activations apart, which have no
    weights.
    """
    backbone = encoder.backbone()
    settings = {
        name: value
        for name, value in vars(encoder).items()
        if isinstance(value, bool | int | float | str) and name != "training"
    }
    parts = [backbone_digest(backbone), str(backbone), type(encoder).__name__, json.dumps(settings, sort_keys=True)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _join(packs: list[Packed], values: list[Tensor]) -> Packed:
    offsets, start = [packs[0].offsets[:1]], 0
    for packed in packs:
        offsets.append(packed.offsets[1:] + start)
        start += int(packed.offsets[-1])
    return Packed({"values": torch.cat(values)}, torch.cat(offsets))


def _open(encoder: Any, plan: Preparation, store: Store, split: str, device: torch.device) -> FeatureSource:
    parts = [features_key(encoder), store.fingerprint(plan), split]  # raise the store's version with this format
    path = store.cache / f"features-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:20]}.safetensors"
    if not path.exists():
        _compute(encoder, store.source(plan), store.cohort.rows(split), len(store.cohort.subject_ids), path, device)
    return read_features(path)


def read_features(path: Path) -> FeatureSource:
    """Map features into memory, and read them once for their checksum.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
            kept = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: not readable ({type(error).__name__}); {_AGAIN}") from None
    if kept.get("crc32") != _checksum(tensors[name] for name in _TENSORS):
        raise UsageError(f"{path}: differs from its checksum; {_AGAIN}")
    return FeatureSource(Packed({"values": tensors["values"]}, tensors["offsets"]), tensors["position"])


@torch.no_grad()
def _compute(encoder: Any, source: Any, rows: Any, count: int, path: Path, device: torch.device) -> None:
    chosen = torch.as_tensor(rows, dtype=torch.int64)
    lengths = source.lengths(chosen)
    order = chosen[lengths.argsort(stable=True)][(lengths.sort(stable=True).values > 0)]
    position = torch.full((count,), -1, dtype=torch.int64)
    position[order] = torch.arange(len(order))
    encoder = encoder.to(device).eval()
    offsets, width = [torch.zeros(1, dtype=torch.int64)], 1
    with scratch(path) as folder:
        raw = folder / "values.bin"
        with raw.open("wb") as file:
            # where nobody has the modality, one patient without it still tells the width
            for batch in (order if len(order) else chosen[:1]).split(_BATCH):
                tokens = encoder.features(move(source.collate(batch), device))
                width = tokens.values.shape[-1]
                file.write(_bytes(tokens.values[tokens.mask].to(torch.bfloat16).cpu()))
                offsets.append(tokens.mask.sum(1).cpu())
        _write_safetensors(path, raw, width, torch.cat(offsets).cumsum(0), position)


def _write_safetensors(path: Path, raw: Path, width: int, offsets: Tensor, position: Tensor) -> None:
    """Write the format by hand so that features larger than memory stream from the raw file."""
    size = raw.stat().st_size
    checksum = zlib.crc32(_bytes(position), zlib.crc32(_bytes(offsets)))
    with raw.open("rb") as body:
        while part := body.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    header: dict[str, Any] = {"__metadata__": {"crc32": str(checksum)}}
    end = 0
    shapes = {
        "offsets": ("I64", [len(offsets)], 8 * len(offsets)),
        "position": ("I64", [len(position)], 8 * len(position)),
        "values": ("BF16", [size // (2 * width), width], size),
    }
    for name, (kind, shape, length) in shapes.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path, private=True) as temporary, temporary.open("wb") as file, raw.open("rb") as body:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(_bytes(offsets) + _bytes(position))
        shutil.copyfileobj(body, file, 1 << 20)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _checksum(tensors: Iterable[Tensor]) -> str:
    found = 0
    for each in tensors:
        found = zlib.crc32(each.contiguous().flatten().view(torch.uint8).numpy().data, found)
    return str(found)

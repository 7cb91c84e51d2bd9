"""The device a process trains on: one GPU if it sees one, else the CPU; moving batches; measuring memory."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils import deterministic as deterministic_settings


def pick_device() -> torch.device:
    """Return the first visible GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # cuDNN's attention makes a plan for each new shape, and lengths in buckets have many: a first epoch of 12.8 s
    # instead of 0.4 s on an H100, and later ones three times as slow as torch's own fused kernels
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda")


def move(value: Any, device: torch.device) -> Any:
    """Move tensors in mappings and NamedTuples to a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: move(each, device) for name, each in value.items()}
    return type(value)(*(move(each, device) for each in value))


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, numpy and torch, and ask torch for deterministic kernels where it has them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # filling memory before it is written guards against code that reads it first, and costs a tenth of a small step
    deterministic_settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring peak memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: resets VmHWM
    except OSError:
        return


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak since the last reset, in MB: allocated on the GPU, resident in this process on the CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return float(psutil.Process().memory_info().rss) / 2**20


def release_memory(device: torch.device) -> None:
    """Give memory that is no longer used back; glibc and torch would keep what the largest trial so far needed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)

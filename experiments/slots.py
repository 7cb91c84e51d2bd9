"""Where processes run: the GPUs this one may use, or its cores, and how many processes that makes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


def visible_gpus() -> list[str]:
    """Return the GPUs this process may use, without initialising CUDA in it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.splitlines() if line.strip()]


def visible_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(devices: int = 1) -> int:
    """Return how many processes to use when nobody says: one a GPU, or one a core where there is no GPU.

    Args:
        devices: how many GPUs or cores each takes.
    """
    return max(1, (len(visible_gpus()) or visible_cores()) // devices)


def slot_environment(slot: int, gpus: Sequence[str], devices: int = 1) -> dict[str, str]:
    """Return what the process of a slot (counted from 0) must have in its environment before it first asks for CUDA.

    Slots take the GPUs in turns, so that 8 slots on one GPU share it and 8 slots on 4 GPUs make two a GPU.

    Args:
        devices: how many GPUs a slot has, as far as there are so many.
    """
    if not gpus:
        return {}
    mine = [gpus[(slot * devices + place) % len(gpus)] for place in range(min(devices, len(gpus)))]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

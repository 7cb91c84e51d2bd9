"""Compiling a network on a GPU: `torch.compile`, and CUDA graphs by way of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fusion import UsageError

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "default": {"dynamic": True},  # batches differ in length, and in who has which modality
    "reduce-overhead": {"mode": "reduce-overhead"},  # a CUDA graph for each shape
}


def check_compile(how: str, gpu: bool) -> None:
    """Refuse to compile where there is no GPU.

    Raises:
        UsageError: there is none, and compiling is asked for.
    """
    if how != "none" and not gpu:
        raise UsageError(f"training.compile: '{how}' needs a GPU, and there is none here; write none")


def compile_parts(parts: Iterable[nn.Module], how: str, device: torch.device) -> None:
    """Compile modules in place: their weights keep their names; forward and backward pass become other code.

    Each run compiles anew, which takes seconds to a minute and so pays for long runs only. Dropout draws other numbers
    than without compiling, the same ones in each run of a seed.

    Raises:
        UsageError: there is no GPU.
    """
    check_compile(how, device.type == "cuda")
    if how == "none":
        return
    torch.compiler.reset()  # what was compiled for earlier runs would count against the limit of versions
    for each in parts:
        each.compile(**_OPTIONS[how])


def begin_step(how: str) -> None:
    """Say that results of the last step are no longer needed, so that CUDA graphs may write over them."""
    if how == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()

"""Doing with fewer patients at once where memory does not hold them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from experiments.device import release_memory
from search.failures import is_out_of_memory

T = TypeVar("T")


def within_memory(attempt: Callable[[int], T], at_once: int, device: torch.device) -> tuple[T, int]:
    """Call `attempt` with a number of patients, halved until memory holds them; return its result and that number.

    The error is caught here, outside of the frames that hold tensors, so that these are gone before the next try. What
    `attempt` changes it must be able to do again.

    Raises:
        whatever `attempt` raises; what says that memory is full only where a single patient is too many.
    """
    while True:
        try:
            return attempt(at_once), at_once
        except Exception as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
        logging.getLogger("ehrfusion").warning(
            "out of memory with %d patients at once; going on with %d", at_once, (at_once + 1) // 2
        )
        at_once = (at_once + 1) // 2
        gc.collect()  # an exception may be part of a cycle with the frames it was raised in
        release_memory(device)

"""Pretrained weights: whether constructors fetch them, and that they are never unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_fetch: ContextVar[bool] = ContextVar("fetch_pretrained", default=True)
_ONLY, _NOT_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def fetch_pretrained() -> bool:
    """Tell whether a constructor should load pretrained weights."""
    return _fetch.get()


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build networks of the right shape only; needs no file and no network."""
    token = _fetch.set(False)
    try:
        yield
    finally:
        _fetch.reset(token)


@contextmanager
def weights_only() -> Iterator[None]:
    """Let `torch.load`, whoever calls it, read tensors and nothing else: torchvision asks it to unpickle."""
    before = {name: os.environ.pop(name, None) for name in (_ONLY, _NOT_ONLY)}
    os.environ[_ONLY] = "1"
    try:
        yield
    finally:
        del os.environ[_ONLY]
        os.environ.update({name: value for name, value in before.items() if value is not None})

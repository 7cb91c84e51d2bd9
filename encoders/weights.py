"""Whether constructors fetch pretrained weights: not when a saved model's own weights are about to be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_fetch: ContextVar[bool] = ContextVar("fetch_pretrained", default=True)


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

"""Limits of preprocessing options."""

from __future__ import annotations

from fusion.component import UsageError


def at_least(name: str, value: int, least: int) -> None:
    """Refuse an option below its least sensible value.

    Raises:
        UsageError: it is.
    """
    if value < least:
        raise UsageError(f"{name} must be at least {least}; got {value}")

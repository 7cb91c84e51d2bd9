"""What the command line prints with."""

from __future__ import annotations

import sys
from typing import Any


def console() -> Any:
    """Return the console that prints results; plain and wide enough when it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def say(text: str) -> None:
    """Print one line of a result."""
    print(text, flush=True)  # noqa: T201 - results of the command line go to stdout

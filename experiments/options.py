"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
from pathlib import Path


def count(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up; got '{text}'")
    return int(text)


def names(text: str) -> list[str]:
    """Read names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1; got '{text}'")
    return value


def runs(parser: argparse.ArgumentParser) -> None:
    """Add where studies are."""
    parser.add_argument("--runs", type=Path, default=None, help="folder of studies and tracking (default: runs)")


def no_audit(parser: argparse.ArgumentParser) -> None:
    """Add the way around the audit."""
    parser.add_argument("--no-audit", action="store_true", help="go on without a leakage audit; it is written down")


def workers(parser: argparse.ArgumentParser) -> None:
    """Add how many processes."""
    text = "processes; more than GPUs share them (default: what the study says, else one a GPU or one a core)"
    parser.add_argument("--workers", type=count, default=None, help=text)


def overwrite(parser: argparse.ArgumentParser) -> None:
    """Add leave to replace a folder."""
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")


def overrides(parser: argparse.ArgumentParser) -> None:
    """Add settings that differ from the file's."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. search.trials=50 training.lr=1e-3")

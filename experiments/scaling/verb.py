"""The verb `ehrfusion scaling`: its arguments, and what it does."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_scaling(verbs: Any, *options: Callable[[Any], None]) -> None:
    """Add the verb; each option adds arguments that other verbs have too."""
    parser = verbs.add_parser("scaling", help="how large a model these data are worth, from a grid of small ones")
    parser.add_argument("config", help="a YAML file with a section 'scaling'")
    parser.add_argument("--fresh", action="store_true", help="train cells again that were trained before")
    for add in options:
        add(parser)
    parser.set_defaults(run="scaling")


def scaling(arguments: Namespace) -> int:
    """Train the grid of a configuration and say what it tells."""
    from experiments.config import load_config
    from experiments.scaling.command import run_scaling
    from experiments.terminal import say

    runs: Path | None = arguments.runs
    overrides = [f"runs={runs}"] if runs is not None else []
    config = load_config(arguments.config, [*overrides, *arguments.overrides])
    for line in run_scaling(config, fresh=arguments.fresh):
        say(line)
    return 0

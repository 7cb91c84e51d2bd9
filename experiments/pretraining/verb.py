"""The verb `ehrfusion pretrain`: its arguments, and what it does."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_pretrain(verbs: Any, *options: Callable[[Any], None]) -> None:
    """Add the verb; each option adds arguments that other verbs have too."""
    parser = verbs.add_parser("pretrain", help="train encoders without labels, for others to start from")
    parser.add_argument("config", help="a YAML file with a section 'pretrain'")
    parser.add_argument("--fresh", action="store_true", help="pre-train again where it was done before")
    for add in options:
        add(parser)
    parser.set_defaults(run="pretrain")


def pretrain(arguments: Namespace) -> int:
    """Pre-train the encoders of a configuration."""
    from experiments.config import load_config
    from experiments.pretraining.command import run_pretraining
    from experiments.terminal import say

    runs: Path | None = arguments.runs
    overrides = [f"runs={runs}"] if runs is not None else []
    config = load_config(arguments.config, [*overrides, *arguments.overrides])
    for line in run_pretraining(config, fresh=arguments.fresh):
        say(line)
    return 0

"""`ehrfusion pretrain` and `scaling`: verbs that do what one section of a configuration says."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.options import overrides, runs
from experiments.terminal import say

if TYPE_CHECKING:
    from experiments.config import Config


def add_section_verbs(verbs: Any) -> None:
    """Add the verbs to the others."""
    for name, what, fresh in (
        ("pretrain", "train encoders without labels, for others to start from", "pre-train again where it was done"),
        ("scaling", "how large a model these data are worth, from a grid of small ones", "train all cells again"),
    ):
        parser = verbs.add_parser(name, help=what)
        parser.add_argument("config", help=f"a YAML file with a section '{name}'")
        parser.add_argument("--fresh", action="store_true", help=fresh)
        runs(parser)
        overrides(parser)
        parser.set_defaults(run=name)


def pretrain(arguments: Namespace) -> int:
    """Pre-train the encoders of a configuration."""
    from experiments.pretraining.command import run_pretraining

    for line in run_pretraining(_config(arguments), fresh=arguments.fresh):
        say(line)
    return 0


def scaling(arguments: Namespace) -> int:
    """Train the grid of a configuration and say what it tells."""
    from experiments.scaling.command import run_scaling

    for line in run_scaling(_config(arguments), fresh=arguments.fresh):
        say(line)
    return 0


def _config(arguments: Namespace) -> Config:
    from experiments.config import load_config

    folder: Path | None = arguments.runs
    return load_config(arguments.config, [*([f"runs={folder}"] if folder is not None else []), *arguments.overrides])

"""From a study to a registered model: retrain the best with fresh seeds, pick on tuning, evaluate once, register."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bootstrap import bootstrap_metrics
from experiments.bundle import load_bundle, save_bundle
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import preparations
from experiments.jobs import JobFailure, default_workers, run_jobs
from experiments.searching import Finalist, finalists
from experiments.train import train
from experiments.workspace import git_commit, open_store
from fusion import Architecture, UsageError

_FRESH = 1_000_003  # keeps the seeds of retraining apart from those of trials


@dataclass(frozen=True)
class Registration:
    """What was registered, how it was chosen and what it scored, once, on the held-out split."""

    name: str
    version: str
    aliases: tuple[str, ...]
    architecture: Architecture
    tuning: Mapping[str, float]
    held_out: Mapping[str, tuple[float, float, float]]
    bundle: Path
    candidates: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def render(self) -> Any:
        """Return a rich table of the held-out metrics with their intervals."""
        from rich.table import Table

        title = f"{self.name} version {self.version} ({', '.join(self.aliases)}), held out, evaluated once"
        table = Table("metric", "value", "95% interval", title=title)
        for metric, (value, low, high) in self.held_out.items():
            table.add_row(metric, f"{value:.3f}", f"{low:.3f} to {high:.3f}")
        return table

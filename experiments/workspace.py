"""Open what a configuration names: its data folder, cohort and prepared tensors; and where this code came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from experiments.config import Config
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.store import Store


def open_store(config: Config, *, progress: bool = False) -> Store:
    """Open the cohort and the prepared tensors of a configuration.

    A folder that does not exist yet is written first if `data.synthetic` says what with.

    Raises:
        UsageError: the folder, the labels or the splits are not what the configuration says.
    """
    data = config.data
    if data.synthetic is not None and not data.folder.exists():
        from experiments.sources.synthetic import write_synthetic

        write_synthetic(data.folder, **data.synthetic.model_dump(), progress=progress)
    dataset = open_dataset(data.folder)
    return Store(dataset, load_cohort(dataset, data), data, config.runs / "cache")


def git_commit() -> str:
    """Return the commit of the code that runs, `+changes` where it was edited, or `unknown` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()

"""Open what a configuration names: its data folder, cohort and prepared tensors; and where this code came from."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from experiments.config import Config
from experiments.data.cohort import load_cohort
from experiments.data.folder import Dataset, open_dataset
from experiments.data.store import Store
from experiments.data.units import tables_fingerprint
from experiments.whole import one_at_a_time

_TELLING = ("reporting", "clinical")  # packages that `lint-imports` keeps out of what trains and predicts


def open_data(config: Config, *, progress: bool = False) -> Dataset:
    """Open the data folder of a configuration; one that does not exist yet is written first, if it says what with.

    Raises:
        UsageError: the folder is not there, or is no data folder.
    """
    data = config.data
    if data.synthetic is not None and not data.folder.exists():
        from experiments.sources.synthetic import write_synthetic

        with one_at_a_time(data.folder):  # a second writer would take the folder from under the first one's readers
            if not data.folder.exists():
                write_synthetic(data.folder, **data.synthetic.model_dump(), progress=progress)
    return open_dataset(data.folder)


def open_store(config: Config, *, progress: bool = False) -> Store:
    """Open the cohort and the prepared tensors of a configuration.

    Raises:
        UsageError: the folder, the labels or the splits are not what the configuration says.
    """
    dataset = open_data(config, progress=progress)
    return Store(dataset, load_cohort(dataset, config.data), config.data, config.runs / "cache")


@cache
def code_fingerprint() -> str:
    """Hash the code that trains, predicts and audits, so that results of other code are not taken for its own.

    Tables of measurements count as code. What only tells of predictions does not count: a changed word in a report
    trains nothing again.
    """
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    packages = ("fusion", "encoders", "experiments")
    for path in sorted(each for package in packages for each in (root / package).rglob("*.py")):
        if not any(path.is_relative_to(root / "experiments" / each) for each in _TELLING):
            digest.update(path.read_bytes())
    digest.update(tables_fingerprint().encode())
    return digest.hexdigest()


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

"""What a comparison leaves: tables, numbers, picture, page and predictions in its folder, and a run in MLflow."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.comparison import Comparison, to_csv
from experiments.config import Config, ExperimentConfig
from experiments.held_out import HeldOut
from experiments.plots import forest_png
from experiments.reporting.comparison_page import comparison_html
from experiments.reporting.latex import comparison_tex, leaderboard_csv, sections_tex
from experiments.reporting.rank_diagram import rank_diagram_png
from experiments.reporting.reproducibility import CONFIG
from experiments.section import Section
from experiments.whole import whole_file

if TYPE_CHECKING:
    from experiments.tracking.runs import Connection


def write_comparison(
    config: Config, comparison: Comparison, held_out: HeldOut, folder: Path, parts: Sequence[Section] = ()
) -> None:
    """Write everything, and log all but the predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "comparison.csv": comparison.to_csv().encode(),
        "differences.csv": comparison.differences_csv().encode(),
        "leaderboard.csv": leaderboard_csv(comparison).encode(),
        "comparison.tex": comparison_tex(comparison).encode(),
        "comparison.json": comparison.to_json().encode(),
        "comparison.png": forest_png(comparison),
        "comparison.html": comparison_html(comparison, parts).encode(),
    }
    if "again" in comparison.about:
        contents[CONFIG] = comparison.about["again"]["config"].encode()
    if comparison.ranks is not None:
        contents["ranks.png"] = rank_diagram_png(comparison.ranks)
    if parts:
        contents["sections.tex"] = sections_tex(parts).encode()
    for part in parts:
        contents |= {f"{name}.csv": to_csv(*each.spread()).encode() for name, each in part.tables.items()}
        contents |= {f"{name}.png": each.png for name, each in part.pictures.items()}
    for name, content in (contents | {"predictions.npz": _predictions(held_out)}).items():
        with whole_file(folder / name, private=name == "predictions.npz") as temporary:
            temporary.write_bytes(content)
    if config.tracking.enabled:
        _log(config, comparison, [folder / name for name in contents])


def _predictions(held_out: HeldOut) -> bytes:
    """Return who was predicted what: patients are numbered, their ids stay in the data folder.

    Shape:
        row, patient, fold and target (N,), `of NAME` (seeds, N) or (seeds, N, K) for each strategy.
    """
    buffer = io.BytesIO()
    patient = np.unique(held_out.subject_ids, return_inverse=True)[1]
    own = {"row": held_out.rows, "patient": patient, "fold": held_out.fold, "target": held_out.target}
    found = {f"of {name}": np.stack(each) for name, each in held_out.predictions.items()}
    np.savez_compressed(buffer, allow_pickle=False, **own, **found)
    return buffer.getvalue()


def _log(config: Config, comparison: Comparison, files: Sequence[Path]) -> None:
    """Log to MLflow; hours of training are not lost because the tracker is away."""
    from experiments.tracking.runs import connect, first_line, log_comparison

    rows = [
        {"strategy": row.strategy, "metric": row.metric, "value": row.value, "low": row.low, "high": row.high}
        for row in comparison.rows
    ]
    tags = {name: comparison.about[name] for name in ("data_fingerprint", "split_fingerprint", "git_commit")}
    try:
        connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
        log_comparison(
            connection, f"{config.name} comparison", rows, files, tags=tags, parent=_study_run(config, connection)
        )
    except Exception as error:  # whatever MLflow and the network raise
        logging.getLogger("ehrfusion").warning(
            "the comparison is in its folder, but not in MLflow: %s", first_line(error)
        )


def _study_run(config: Config, connection: Connection) -> str | None:
    """Return the MLflow run of the study that is compared."""
    if isinstance(config, ExperimentConfig):
        return None
    from experiments.studies import load_study
    from experiments.tracking.runs import study_run

    return study_run(connection, load_study(config).user_attrs["study_key"])

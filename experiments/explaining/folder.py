"""Explain a model on the patients of a folder: what of each modality its predictions rest on, as a page and tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.bundle import Predictor, collate_records
from experiments.comparison import to_csv
from experiments.data.folder import SPLIT_FILE, Dataset, open_dataset
from experiments.data.reader import iterate_records
from experiments.device import move
from experiments.explaining.attribution import Unattributable, attribute
from experiments.explaining.gates import items_of
from experiments.explaining.page import Explained, explained_html, tables_of
from experiments.explaining.tally import names_of
from experiments.predict import open_predictor, rows_to_predict
from experiments.progress import progress_bar
from experiments.whole import whole_file
from fusion.component import UsageError, unknown
from fusion.model import present_rows

_BATCH = 64


def explain_folder(
    model: str | Path,
    folder: Path,
    out: Path,
    *,
    labels: str | None = None,
    split: str | None = None,
    runs: Path = Path("runs"),
    tracking: str | None = None,
    progress: bool = False,
) -> Path:
    """Write explanation.html and a CSV a modality and output; return the page.

    Args:
        model: a bundle folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        labels: a label file that says when to predict; each patient's last event unless given.
        split: only patients of this split of the folder.

    Raises:
        UsageError: no such model, folder, label or split, or captum is not installed.
    """
    if out.is_file():
        raise UsageError(f"{out} is a file; name a folder")
    dataset, predictor = open_dataset(folder), open_predictor(model, runs, tracking)
    table = rows_to_predict(dataset, labels, predictor.task)
    table = table if split is None else _of_split(dataset, table, split)
    found = _explained(predictor, dataset, table, progress)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = {f"{name}.csv": to_csv(each.heads, each.rows) for name, each in tables_of(found).items()}
    contents["explanation.html"] = explained_html(predictor, found, len(table))
    for name, content in contents.items():
        with whole_file(out / name, private=True) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return out / "explanation.html"


def _of_split(dataset: Dataset, table: pl.DataFrame, split: str) -> pl.DataFrame:
    """Keep the patients of a split."""
    path, splits = dataset.folder / SPLIT_FILE, dataset.splits
    if splits is None:
        raise UsageError(f"{path} is missing, so nobody knows who is in '{split}'; leave --split out")
    known = splits["split"].unique().to_list()
    if split not in known:
        raise unknown("split", split, known, str(path))
    return table.join(splits.filter(pl.col("split") == split), on="subject_id", how="semi", maintain_order="left")


def _explained(predictor: Predictor, dataset: Dataset, table: pl.DataFrame, progress: bool) -> list[Explained]:
    """Attribute every modality and output, a few patients at a time."""
    found = [
        Explained(modality, name, names_of(preprocessor))
        for modality, preprocessor in predictor.preprocessors.items()
        for name in (predictor.task.names if predictor.task.outputs > 1 else ("",))
    ]
    records = iterate_records(
        dataset,
        table["subject_id"].to_numpy().astype(np.int64),
        table["prediction_time"].to_numpy().astype("datetime64[us]"),
        window_days=predictor.contract.get("window_days"),
        modalities=predictor.modalities,
    )
    subjects = table["subject_id"].to_numpy()
    unread: set[Path] = set()
    with progress_bar("explaining", len(table), enabled=progress) as advance:
        while chunk := list(islice(records, _BATCH)):
            people = [record for _, record in chunk]
            inputs = {
                name: collate_records(preprocessor, people, unread.add)
                for name, preprocessor in predictor.preprocessors.items()
            }
            _add(predictor, move(inputs, predictor.device), found, subjects[[row for row, _ in chunk]])
            advance(len(chunk))
    return found


def _add(predictor: Predictor, inputs: Mapping[str, Any], found: list[Explained], subjects: NDArray[np.int64]) -> None:
    """Attribute a batch and count it."""
    for modality in predictor.modalities:
        rows, _ = present_rows(inputs[modality])
        mine = [each for each in found if each.modality == modality and each.possible]
        if not len(rows) or not mine:
            continue
        here = {name: type(each)(*(part[rows] for part in each)) for name, each in inputs.items()}
        people = subjects[rows.cpu().numpy()].tolist()
        for output, explained in enumerate(mine):
            try:
                parts = attribute(predictor.model, here, modality, output)
            except Unattributable:
                explained.possible = False
                continue
            values = parts.values.cpu().double().numpy()
            explained.said += float(parts.said.abs().sum())
            explained.missed += float(parts.missed.abs().sum())
            items = items_of(here[modality])
            if items is None:
                explained.regions.add(here[modality].mask.cpu().numpy(), values, people)
            else:
                explained.items.add(items[0].cpu().numpy(), items[1].cpu().numpy(), values, people)

"""Explain a model on the patients of a folder: what of each modality its predictions rest on, as a page and tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from experiments.bundle import Predictor, collate_records
from experiments.comparison import to_csv
from experiments.data.folder import Dataset, open_dataset
from experiments.data.reader import iterate_records
from experiments.device import move
from experiments.explaining.attribution import Unattributable, attribute
from experiments.explaining.explained import Explained, tables_of
from experiments.explaining.gates import items_of
from experiments.explaining.links import attribute_links, explained_by, link_names, reached
from experiments.explaining.own_weights import OwnWeights
from experiments.explaining.page import explained_html
from experiments.explaining.people import of_split
from experiments.explaining.tally import names_of
from experiments.predict import open_predictor, rows_to_predict
from experiments.progress import progress_bar
from experiments.whole import whole_file
from fusion.component import UsageError
from fusion.model import present_rows

_BATCH = 64
MOST_LINKED = 256
"""Patients whose edges are attributed at most, drawn at random: a graph is passed through once each and step."""
_NO_ITEMS = "This encoder cannot be attributed: no gradient leads back to single items."
_NO_LINKS = "No edge can be attributed: the graph has none, or the encoder has no gates on what it passes along them."


class Done(NamedTuple):
    """The page that was written, and a line on whose predictions it is about."""

    page: Path
    who: str


def explain_folder(
    model: str | Path,
    folder: Path,
    out: Path,
    *,
    labels: str | None = None,
    split: str | None = None,
    weights: Path | None = None,
    runs: Path = Path("runs"),
    tracking: str | None = None,
    progress: bool = False,
) -> Done:
    """Write explanation.html and a CSV a modality and output.

    Args:
        model: a bundle folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        labels: a label file that says when to predict; each patient's last event unless given.
        split: only patients of this split of the folder, or `all`; who is held out unless given, if the folder says so.
        weights: a parquet file for each prediction's fusion weights, which like predictions have subjects beside them.

    Raises:
        UsageError: no such model, folder, label or split, captum is not installed, or the fusion has no weights.
    """
    if out.is_file():
        raise UsageError(f"{out} is a file; name a folder")
    if weights is not None and weights.is_dir():
        raise UsageError(f"{weights} is a folder; name a parquet file")
    dataset, predictor = open_dataset(folder), open_predictor(model, runs, tracking)
    table, who = of_split(dataset, rows_to_predict(dataset, labels, predictor.task), split, predictor.contract)
    found, own = _explained(predictor, dataset, table, progress)
    if weights is not None and not own.possible:
        name = predictor.architecture.fusion.name
        raise UsageError(f"fusion '{name}' has no view of each modality, so no weights to write; leave --weights out")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = {f"{name}.csv": to_csv(each.heads, each.rows) for name, each in tables_of(found).items()}
    shown = own.table(table["subject_id"].to_numpy()) if own.possible else None
    contents["explanation.html"] = explained_html(predictor, found, who, shown, len(table))
    for name, content in contents.items():
        with whole_file(out / name, private=True) as temporary:
            temporary.write_text(content, encoding="utf-8")
    if weights is not None:
        own.write(table, weights)
    return Done(out / "explanation.html", who)


def _wanted(predictor: Predictor, dataset: Dataset, linked: int, rows: int) -> list[Explained]:
    """Return what is to be found: of every modality and output, and of the edges of a graph."""
    outputs = predictor.task.names if predictor.task.outputs > 1 else ("",)
    meanings = dataset.knowledge().descriptions if {"codes", "graph"} & set(predictor.modalities) else {}
    people = f"Of {linked:,} of the {rows:,} predictions, drawn at random." if linked < rows else ""
    found = []
    for modality, preprocessor in predictor.preprocessors.items():
        known = meanings if modality in ("codes", "graph") else {}
        found += [Explained(modality, name, names_of(preprocessor), known) for name in outputs]
        if modality == "graph":
            kind = explained_by(predictor.model.encoders["graph"])
            links, why_not = (link_names(preprocessor, kind), "") if kind else ({}, _NO_LINKS)
            found += [
                Explained(modality, name, links, known, kind or "edges", why_not=why_not, people=people)
                for name in outputs
            ]
    return found


def _explained(
    predictor: Predictor, dataset: Dataset, table: pl.DataFrame, progress: bool
) -> tuple[list[Explained], OwnWeights]:
    """Attribute every modality and output, a few patients at a time, and keep the weights of the fusion."""
    rows = len(table)
    linked = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_LINKED])
    found, own = _wanted(predictor, dataset, len(linked), rows), OwnWeights(predictor.modalities)
    records = iterate_records(
        dataset,
        table["subject_id"].to_numpy().astype(np.int64),
        table["prediction_time"].to_numpy().astype("datetime64[us]"),
        window_days=predictor.contract.get("window_days"),
        modalities=predictor.modalities,
    )
    subjects = table["subject_id"].to_numpy()
    unread: set[Path] = set()
    with progress_bar("explaining", rows, enabled=progress) as advance:
        while chunk := list(islice(records, _BATCH)):
            people, places = [record for _, record in chunk], np.array([row for row, _ in chunk])
            inputs = {
                name: collate_records(preprocessor, people, unread.add)
                for name, preprocessor in predictor.preprocessors.items()
            }
            inputs = move(inputs, predictor.device)
            own.add(predictor.model, inputs, places)
            _add(predictor, inputs, found, subjects[places], np.isin(places, linked))
            advance(len(chunk))
    return found, own


def _add(
    predictor: Predictor,
    inputs: Mapping[str, Any],
    found: list[Explained],
    subjects: NDArray[np.int64],
    linked: NDArray[np.bool_],
) -> None:
    """Attribute a batch and count it."""
    names = predictor.task.names
    for each in found:
        some = linked if each.links else np.ones_like(linked)
        rows, _ = present_rows(inputs[each.modality])
        rows = rows[torch.from_numpy(some).to(rows.device)[rows]]
        if not len(rows) or each.why_not:
            continue
        here = {name: type(every)(*(part[rows] for part in every)) for name, every in inputs.items()}
        people = subjects[rows.cpu().numpy()].tolist()
        output = names.index(each.output) if each.output else 0
        try:
            _count(predictor, here, each, output, people)
        except Unattributable:
            each.why_not = _NO_LINKS if each.links else _NO_ITEMS


def _count(
    predictor: Predictor, inputs: Mapping[str, Any], explained: Explained, output: int, people: list[int]
) -> None:
    mine, modality = inputs[explained.modality], explained.modality
    if explained.links:
        graph = predictor.preprocessors[modality]
        parts = attribute_links(predictor.model, inputs, graph, output)
        real = reached(graph, explained.links, mine.nodes, mine.mask)
        explained.count(parts, real, people, np.broadcast_to(np.arange(real.shape[1]), real.shape))
        return
    parts, items = attribute(predictor.model, inputs, modality, output), items_of(mine)
    if items is None:
        explained.count(parts, mine.mask.cpu().numpy(), people, None)
    else:
        explained.count(parts, items[1].cpu().numpy(), people, items[0].cpu().numpy())

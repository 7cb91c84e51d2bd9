"""Records of a folder as texts: one, or all that a label file predicts, in a file that only its owner may read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from encoders.serialise import IMAGES, NOTES, TextOptions
from encoders.wording import Wording
from experiments.data.cohort import read_targets
from experiments.data.folder import Dataset, is_inside
from experiments.data.reader import iterate_records
from experiments.progress import progress_bar
from experiments.whole import whole_file
from fusion.component import UsageError

_AT_ONCE = 256  # records in memory
_SCHEMA = pa.schema(
    {"row": pa.int64(), "subject_id": pa.int64(), "prediction_time": pa.timestamp("us"), "text": pa.string()}
)
ENDINGS = (".jsonl", ".parquet", ".md")


def texts(
    dataset: Dataset,
    labels: str,
    options: TextOptions,
    *,
    rows: Sequence[int] | None = None,
    window_days: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield row, subject, prediction time and text of the predictions of a label file, in the order of event files.

    A text holds what was known at the prediction time and nothing later. Rows are numbered by subject and time.

    Raises:
        UsageError: there is no such label or row, or the folder cannot be read.
    """
    keys, *_ = read_targets(dataset, labels)
    subjects = keys["subject_id"].to_numpy().astype(np.int64)
    times: NDArray[np.datetime64] = keys["prediction_time"].to_numpy().astype("datetime64[us]")
    chosen = np.arange(len(subjects)) if rows is None else np.asarray(rows, np.int64)
    if ((chosen < 0) | (chosen >= len(subjects))).any():
        raise UsageError(f"row {int(chosen[0])}: label '{labels}' has rows 0 to {len(subjects) - 1:,}")
    knowledge = replace(dataset.knowledge(), measures=dataset.measures)
    wording = Wording(knowledge.descriptions, knowledge.measures, options)
    modalities = ("codes", *(each for each in (NOTES, IMAGES) if each in options.sections))
    found = iterate_records(dataset, subjects[chosen], times[chosen], window_days=window_days, modalities=modalities)
    for place, record in found:
        row = int(chosen[place])
        yield {
            "row": row,
            "subject_id": int(subjects[row]),
            "prediction_time": times[row].item(),
            "text": wording.whole(record),
        }


def only_label(dataset: Dataset) -> str:
    """Return the name of a folder's label, where it has one only.

    Raises:
        UsageError: it has none or several.
    """
    known = sorted({path.stem for path in (dataset.folder / "labels").glob("*") if not path.name.startswith(".")})
    if len(known) != 1:
        raise UsageError(f"{dataset.folder}: say whose prediction times count: --labels {' or '.join(known) or 'NAME'}")
    return known[0]


def check_target(dataset: Dataset, out: Path, *, one: bool, overwrite: bool) -> None:
    """Refuse a file that texts cannot go to.

    Raises:
        UsageError: it is of another form, lies in the data folder, or is there already.
    """
    if out.suffix not in ENDINGS or (out.suffix == ".md" and not one):
        raise UsageError(f"{out.name}: write texts to a .jsonl or .parquet file, or one (--row) to a .md file")
    if is_inside(dataset.folder, out):
        raise UsageError(f"{out.name} would lie in the data folder, from which events are read; write it elsewhere")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; --overwrite replaces it")


def write_texts(found: Iterator[dict[str, Any]], out: Path, *, progress: bool = False) -> int:
    """Write texts whole or not at all, readable by the owner only, and return how many; few are held at once."""
    count = 0
    with whole_file(out, private=True) as temporary, progress_bar("texts", None, enabled=progress) as advance:
        for part in _write(found, temporary, out.suffix):
            count += part
            advance(part)
    return count


def _write(found: Iterator[dict[str, Any]], path: Path, ending: str) -> Iterator[int]:
    if ending == ".parquet":
        with pq.ParquetWriter(path, _SCHEMA) as writer:
            while some := list(islice(found, _AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(some, _SCHEMA))
                yield len(some)
        return
    with path.open("w", encoding="utf-8") as file:
        for each in found:
            text = str(each["text"])
            file.write(text if ending == ".md" else json.dumps(each, default=str, ensure_ascii=False) + "\n")
            yield 1

"""Using a MEDS dataset where it lies: what it lacks is put beside it, and nothing that is there is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import SPLIT_FILE, Dataset, open_dataset
from experiments.data.tables import INTEGER, TEXT, check_filled, read_table
from experiments.progress import progress_bar
from experiments.sources.folder import split_by_group, write_json, write_splits
from experiments.sources.given_labels import lay_given
from experiments.sources.spelling import respelled
from experiments.whole import scratch
from fusion.component import UsageError


def use_in_place(
    src: Path, *, labels: Sequence[Path] = (), seed: int = 0, overwrite: bool = False, progress: bool = False
) -> dict[str, Any]:
    """Look whether a MEDS dataset can be used as it is, add labels and, where it has none, splits; return a summary.

    Raises:
        UsageError: the reader would refuse an event file, a patient is in two, or a label of that name is there.
    """
    dataset = open_dataset(Path(src))
    subjects, codes = _look(dataset, progress)
    added: list[str] = []
    with scratch(dataset.folder / "adding") as folder:
        for name in ("labels", "metadata"):
            (folder / name).mkdir()
        splits = dataset.splits
        if splits is None:
            splits = split_by_group(subjects.with_columns(group="subject_id"), seed)
            write_splits(folder, splits)
            added.append(SPLIT_FILE)
        flow = lay_given(folder, labels, splits.select("subject_id").unique())
        added += [f"labels/{name}.parquet" for name in flow]
        _may_be_added(dataset.folder, added, overwrite)
        if flow:
            write_json(folder / "cohort.json", {"labels": dataset.flow() | flow})
        for name in [*added, *(["cohort.json"] if flow else [])]:
            (dataset.folder / name).parent.mkdir(exist_ok=True)
            (folder / name).replace(dataset.folder / name)
    spelled = sorted(code for code in codes if respelled(code) != code)
    counts = dict(splits.group_by("split").len().iter_rows())
    found = {"patients": subjects.height, "codes": len(codes), "added": added, "labels": flow, "splits": counts}
    return found | {"spelled_differently": len(spelled), "for_example": spelled[:1]}


def _look(dataset: Dataset, progress: bool) -> tuple[pl.DataFrame, set[str]]:
    """Return the patients and codes of all event files.

    Raises:
        UsageError: one is not what the reader wants, or a patient is in two.
    """
    seen, codes = pl.DataFrame(schema={"subject_id": pl.Int64}), set[str]()
    with progress_bar("looking at event files", len(dataset.shards), enabled=progress) as advance:
        for shard in dataset.shards:
            table = read_table(shard, {"subject_id": INTEGER, "code": TEXT}, only=True)
            check_filled(shard, table, ["subject_id", "code"])
            here = table.select("subject_id").unique()
            twice = here.join(seen, on="subject_id", how="semi").height
            if twice:
                raise UsageError(f"{shard}: {twice:,} patients are in an earlier file too; name a folder for a copy")
            seen = pl.concat([seen, here])
            codes |= set(table["code"].unique())
            advance()
    return seen.sort("subject_id"), codes


def _may_be_added(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise UsageError(f"{folder / name} exists; give the label another name or say --overwrite")

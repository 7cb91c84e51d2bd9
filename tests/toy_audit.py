"""A clean small cohort, and leaks to plant in it: each changes the files, or what is made of them, in one way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from PIL import Image as Pillow

from experiments.audit.finding import Audit
from experiments.audit.run import audit_config, audit_store, used
from experiments.config import Config, parse_config
from experiments.data.folder import open_dataset
from experiments.data.store import Store
from experiments.workspace import open_store

HOUR, DAY = pl.duration(hours=1), pl.duration(days=1)
TWIN = 7_000_000  # what is added to a patient's number to make another's
SHARD, LABELS, SPLITS = "data/00000.parquet", "labels/outcome.parquet", "metadata/subject_splits.parquet"
PREPROCESS = {"codes": {"max_events": 64}, "notes": {"max_tokens": 64}, "images": {"size": 32, "max_images": 1}}


class Planted(NamedTuple):
    """A leak: which check must find it, how badly, and how it is planted in a folder."""

    check: str
    severity: str
    plant: Callable[[Path], Any]


def toy_config(folder: Path, runs: Path, **data: Any) -> Config:
    encoders = {"codes": "bag", "notes": "bag", "images": "conv"}
    model = {"encoders": encoders, "fusion": "late", "dim": 8}
    settings = {"folder": str(folder), "preprocess": PREPROCESS, **data}
    return parse_config({"name": "toy", "runs": str(runs), "data": settings, "model": model})


def audited(folder: Path, runs: Path) -> Audit:
    return audit_config(toy_config(folder, runs))


def opened(folder: Path, runs: Path) -> tuple[Config, Store]:
    config = toy_config(folder, runs)
    return config, open_store(config)


def audit_of(config: Config, store: Store, encoders: Any = ()) -> Audit:
    return audit_store(config, store, used(config)[0], encoders)


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / name)


def change(folder: Path, name: str, how: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    how(read(folder, name)).write_parquet(folder / name)


def who(folder: Path, split: str = "train", positive: bool | None = None) -> pl.DataFrame:
    """Return subject_id and prediction_time of a split's patients, or of those with one label."""
    table = read(folder, LABELS).join(read(folder, SPLITS), on="subject_id").filter(pl.col("split") == split)
    table = table if positive is None else table.filter(pl.col("boolean_value") == positive)
    return table.select("subject_id", "prediction_time")


def positives(folder: Path, share: float = 1.0) -> pl.DataFrame:
    """Return subject_id and prediction_time of a share of those with the outcome, of all splits."""
    table = read(folder, LABELS).filter(pl.col("boolean_value")).select("subject_id", "prediction_time")
    return table.sample(fraction=share, seed=0)


def add_events(folder: Path, events: pl.DataFrame) -> None:
    """Add events; columns they lack are null."""
    change(folder, SHARD, lambda table: in_order(pl.concat([table, events], how="diagonal_relaxed")))


def in_order(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort("subject_id", "time", nulls_last=False, maintain_order=True)


def add_twins(
    folder: Path, count: int, how: Callable[[pl.DataFrame], pl.DataFrame], days: int = 0, split: str = "held_out"
) -> None:
    """Copy training patients into another split under other numbers, events changed, dates shifted."""
    mine = who(folder).head(count)["subject_id"]
    later = pl.duration(days=days)
    number = (pl.col("subject_id") + TWIN).alias("subject_id")
    events = read(folder, SHARD).filter(pl.col("subject_id").is_in(mine.to_list()))
    add_events(folder, how(events).with_columns(number, time=pl.col("time") + later))
    for name, column, value in (
        (LABELS, "prediction_time", pl.col("prediction_time") + later),
        (SPLITS, "split", pl.lit(split)),
    ):
        copies = read(folder, name).filter(pl.col("subject_id").is_in(mine.to_list()))
        copies = copies.with_columns(number, value.alias(column))
        change(folder, name, lambda table, copies=copies: pl.concat([table, copies], how="vertical_relaxed"))


def paint(folder: Path, how: Callable[[Pillow.Image], Pillow.Image]) -> None:
    """Change the images of those with the outcome."""
    mine = set(positives(folder)["subject_id"].to_list())
    for path in (folder / "images").rglob("*.png"):
        if int(path.stem) in mine:
            with Pillow.open(path) as image:
                changed = how(image.copy())
            changed.save(path)


def marked(image: Pillow.Image) -> Pillow.Image:
    """Put a mark into the lower right corner, as some devices do."""
    image.paste(255, (29, 29, 32, 32))
    return image


def split_by_row(store: Store) -> Store:
    """Split a cohort by row, as one must not."""
    split = np.array(["train", "held_out", "train", "tuning"])[np.arange(len(store.cohort.split)) % 4]
    return Store(store.dataset, replace(store.cohort, split=split), store.config, store.cache)


def fitted_on_all(store: Store, patch: pytest.MonkeyPatch, plans: Any) -> None:
    """Prepare a store with preprocessors that were fitted on everybody, though it notes down the training rows."""

    def fit(mine: Store, plan: Any) -> Any:
        records = mine._records(np.arange(len(mine.cohort.split)), (plan.modality,))
        return plan.preprocessor.fit(records, mine.knowledge(), **plan.options)

    with patch.context() as context:
        context.setattr(Store, "fit", fit)
        store.prepare(plans)


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def shards(folder: Path) -> list[Path]:
    return open_dataset(folder).shards

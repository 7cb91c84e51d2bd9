"""Whether anybody of another data folder is among the patients that models learn from, are tuned or compared on."""

from __future__ import annotations

import polars as pl

from experiments.audit.evidence import Evidence
from experiments.audit.links import linked
from experiments.audit.people import SAME
from experiments.data.store import Store
from fusion import UsageError

_EVENT = ("time", "code", "value")


def nobody_in_both(store: Store, external: Store) -> str:
    """Let through two folders that share no patient, and return a line that says what was looked at.

    A patient number that both have is no sign, for sites count alike. Two records are one person's if most telling
    events of the shorter are in the other, also with all dates shifted (see `links.linked`), or if they have one
    number and most of all events in common.

    Raises:
        UsageError: somebody is in both.
    """
    here, there = (Evidence(each, [], [], 0) for each in (store, external))
    numbers = {each: place for place, each in enumerate(sorted(set(external.cohort.subject_ids.tolist())))}
    mine, other = (each.timed.select(pl.col("subject_id").cast(pl.Int64), *_EVENT) for each in (here, there))
    apart = pl.col("subject_id").replace_strict(numbers, return_dtype=pl.Int64) + store.cohort.subject_ids.max() + 1
    cuts = [each.predictions.select("subject_id", "cut") for each in (here, there)]
    pairs = linked(pl.concat([mine, other.with_columns(apart)]), pl.concat([cuts[0], cuts[1].with_columns(apart)]))
    edge = int(store.cohort.subject_ids.max())
    across = pairs.filter((pl.col("first") <= edge) & (pl.col("second") > edge) & (pl.col("share") >= SAME))
    same = max(across.height, _same_number(mine, other))
    if same:
        raise UsageError(
            f"compare.external: {same:,} patients of {external.dataset.folder} have the record of a patient of "
            f"{store.dataset.folder}; an external site must share nobody with the patients trained on"
        )
    both = len(numbers.keys() & set(store.cohort.subject_ids.tolist()))
    said = f"no record of the {len(numbers):,} patients of the other site is in this one's data"
    return f"{said}; {both:,} patient numbers are in both, with other events" if both else said


def _same_number(mine: pl.DataFrame, other: pl.DataFrame) -> int:
    """Count the numbers that stand for most of the same events in both. Columns subject_id, time, code, value."""
    first, second = (
        each.with_columns(token=each.select(*_EVENT).hash_rows()).select("subject_id", "token").unique()
        for each in (mine, other)
    )
    shared = first.join(second, on=["subject_id", "token"]).group_by("subject_id").len("shared")
    sizes = [each.group_by("subject_id").len(name) for each, name in ((first, "one"), (second, "two"))]
    found = shared.join(sizes[0], on="subject_id").join(sizes[1], on="subject_id")
    return found.filter(pl.col("shared") >= SAME * pl.min_horizontal("one", "two")).height

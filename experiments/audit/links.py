"""Which patients look like one person: they share events that hardly anybody else has."""

from __future__ import annotations

import polars as pl

COMMON = 20  # an event or text that more patients share says nothing about who they are
ALIKE = 0.25  # share of the shorter record's telling events below which two records are no pair
_LEAST, _MOMENTS = 5, 3  # shared events, at that many different times, before two records may be one person's


def linked(events: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of patients who share events that few others have, at several times: the same person, or a copy.

    An event is its code, value and time. Time counts from 1970 and, because de-identification shifts dates, also back
    from the patient's first prediction. The work grows with the events: one that more than `COMMON` patients have is
    left out, so that each of the rest makes a bounded number of pairs.

    Args:
        events: columns subject_id, time, code, value.
        predictions: columns subject_id, cut.

    Returns:
        Columns first, second (patient numbers), share (of the shorter record's telling events).
    """
    bounds = predictions.group_by("subject_id").agg(first=pl.col("cut").min(), last=pl.col("cut").max())
    given = events.join(bounds, on="subject_id").filter(pl.col("time") <= pl.col("last"))
    by_time = _pairs(given)
    shifted = _pairs(given.with_columns(time=pl.col("time") - pl.col("first")))
    return pl.concat([by_time, shifted]).group_by("first", "second").agg(pl.col("share").max()).sort("first", "second")


def _pairs(events: pl.DataFrame) -> pl.DataFrame:
    """Return first, second and share of patients who share telling events. Columns subject_id, time, code, value."""
    token = events.select("code", "value", "time").hash_rows()
    table = events.select("subject_id", "time").with_columns(token=token).unique(["subject_id", "token"])
    rarity = pl.len().over("token")
    telling = table.filter(rarity <= COMMON)
    sizes = telling.group_by("subject_id").len()
    shared = telling.filter(rarity > 1)
    both = shared.join(shared, on="token", suffix="_other").filter(pl.col("subject_id") < pl.col("subject_id_other"))
    found = both.group_by(first="subject_id", second="subject_id_other").agg(
        shared=pl.len(), moments=pl.col("time").n_unique()
    )
    found = found.filter((pl.col("shared") >= _LEAST) & (pl.col("moments") >= _MOMENTS))
    for side in ("first", "second"):
        found = found.join(sizes.rename({"subject_id": side, "len": f"{side}_size"}), on=side)
    share = pl.col("shared") / pl.min_horizontal("first_size", "second_size")
    return found.select("first", "second", share=share).filter(pl.col("share") >= ALIKE)

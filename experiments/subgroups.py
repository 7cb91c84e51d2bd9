"""Groups of tuning patients that a model should serve alike: by what records they have, and by codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from encoders.preprocessor import Preparation
from experiments.data.store import Store

LEAST = 20  # patients in a group whose score means anything


class Subgroups(NamedTuple):
    """Who is in each group, and how many groups were too small or had one outcome only.

    Shape:
        each of `members` (N,) bool over the tuning rows.
    """

    members: Mapping[str, NDArray[np.bool_]]
    left_out: int = 0


def subgroups(store: Store, plans: Sequence[Preparation], prefixes: Sequence[str]) -> Subgroups:
    """Return groups of tuning patients: by what kinds of records they have, and by codes that begin with a prefix.

    A code counts if the patient has it at any time up to the prediction, or without a time; who has none with a prefix
    is in no group of it.

    Args:
        plans: one preparation a modality.
    """
    rows = store.cohort.rows("tuning")
    has = {plan.modality: (store.source(plan).row_index[torch.from_numpy(rows)] >= 0).numpy() for plan in plans}
    patterns = np.array([" + ".join(name for name in has if has[name][i]) or "nothing" for i in range(len(rows))])
    found = {f"has {each}": patterns == each for each in np.unique(patterns)}
    if prefixes:
        found |= _by_code(store, rows, prefixes)
    targets = store.cohort.targets[rows]
    kept = {
        name: here
        for name, here in found.items()
        if here.sum() >= LEAST and (store.task.kind == "regression" or len(np.unique(targets[here], axis=0)) > 1)
    }
    return Subgroups(kept, len(found) - len(kept))


def _by_code(store: Store, rows: NDArray[np.int64], prefixes: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    wanted = pl.any_horizontal([pl.col("code").str.starts_with(prefix) for prefix in prefixes])
    columns = ("subject_id", "time", "code")
    events = pl.concat(
        [pl.scan_parquet(path).select(columns).filter(wanted) for path in store.dataset.shards]
    ).collect()
    cohort = store.cohort
    asked = pl.DataFrame(
        {
            "place": np.arange(len(rows)),
            "subject_id": cohort.subject_ids[rows],
            "until": cohort.prediction_times[rows],
        }
    )
    known = asked.join(events.with_columns(pl.col("subject_id").cast(pl.Int64)), on="subject_id")
    known = known.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("until")))
    found: dict[str, NDArray[np.bool_]] = {}
    for (code,), table in known.group_by("code"):
        here = np.zeros(len(rows), np.bool_)
        here[table["place"].to_numpy()] = True
        found[str(code)] = here
    return found

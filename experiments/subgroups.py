"""Groups of patients that a model should serve alike: by what records they have, by codes, age and site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from encoders.preprocessor import Preparation
from experiments.data.reader import AGE, BIRTH
from experiments.data.store import Store
from experiments.data.tables import INTEGER, NUMBER, SITE, TEXT, TIME, read_table, table_schema

Rows = NDArray[np.int64]
Groups = Mapping[str, NDArray[np.bool_]]
"""Who of some rows is in each group. Shape: (N,) bool each."""
LEAST = 20  # patients in a group whose score means anything
LEAST_CASES = 5  # patients with any other outcome than the most frequent, of classes
WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "sex": ("GENDER//", "SEX//", "Gender/", "Sex/"),
    "ethnicity": ("ETHNICITY//", "RACE//", "Ethnicity/", "Race/"),
    "region": ("HOSPITAL_REGION//", "SITE//"),
}
"""Prefixes of codes by which sources write who a patient is."""
_AGES = (18, 45, 65, 80)
_YEAR = np.timedelta64(31_557_600, "s")


class Subgroups(NamedTuple):
    """Who is in each group, and why others were left out, with how many patients they have."""

    members: Groups
    left_out: Mapping[str, tuple[int, str]] = {}


def subgroups(store: Store, rows: Rows, plans: Sequence[Preparation], prefixes: Sequence[str]) -> Subgroups:
    """Return groups of rows that are worth scoring: by kinds of records, and by codes that begin with a prefix.

    Args:
        plans: one preparation a modality.
    """
    return scorable(store, rows, {**by_records(store, rows, plans), **by_codes(store, rows, prefixes)})


def scorable(store: Store, rows: Rows, groups: Groups) -> Subgroups:
    """Keep the groups with enough patients and more than one outcome."""
    members, left_out = {}, {}
    for name, here in groups.items():
        patients = len(np.unique(store.cohort.subject_ids[rows[here]]))
        outcomes = len(np.unique(store.cohort.targets[rows[here]], axis=0))
        if patients < LEAST:
            left_out[name] = (patients, f"fewer than {LEAST} patients")
        elif store.task.kind != "regression" and outcomes < 2:
            left_out[name] = (patients, "only one class: all have the same outcome")
        elif (cases := _cases(store, rows[here])) < LEAST_CASES:
            left_out[name] = (patients, f"only {cases} patients have another outcome than the others")
        else:
            members[name] = here
    return Subgroups(members, left_out)


def _cases(store: Store, rows: Rows) -> int:
    """Count the patients with any other class than the most frequent one; of numbers and labels, all rows."""
    targets = store.cohort.targets[rows]
    if store.task.kind not in ("binary", "multiclass"):
        return len(targets)
    kinds, counts = np.unique(targets, return_counts=True)
    return len(np.unique(store.cohort.subject_ids[rows[targets != kinds[counts.argmax()]]]))


def by_records(store: Store, rows: Rows, plans: Sequence[Preparation]) -> Groups:
    """Group rows by which kinds of records they have."""
    has = {plan.modality: (store.source(plan).row_index[torch.from_numpy(rows)] >= 0).numpy() for plan in plans}
    patterns = np.array([" + ".join(name for name in has if has[name][i]) or "nothing" for i in range(len(rows))])
    return {f"has {each}": patterns == each for each in np.unique(patterns)}


def by_codes(store: Store, rows: Rows, prefixes: Sequence[str]) -> Groups:
    """Group rows by codes that begin with a prefix.

    A code counts if the patient has it at any time up to the prediction, or without a time; who has none with a prefix
    is in no group of it.
    """
    if not prefixes:
        return {}
    wanted = pl.any_horizontal([pl.col("code").cast(pl.String).str.starts_with(prefix) for prefix in prefixes])
    found: dict[str, NDArray[np.bool_]] = {}
    for (code,), table in _known(store, rows, wanted).group_by("code", maintain_order=True):
        found[str(code)] = np.isin(np.arange(len(rows)), table["place"].to_numpy())
    return dict(sorted(found.items()))


def by_age(store: Store, rows: Rows) -> Groups:
    """Group rows by age in years at the prediction: since birth, or else the age last recorded."""
    years = np.full(len(rows), np.nan)
    recorded = _known(store, rows, pl.col("code").cast(pl.String).is_in([AGE, BIRTH]))
    values = recorded.filter((pl.col("code") == AGE) & pl.col("numeric_value").is_not_null())
    for place, value in values.select("place", "numeric_value").iter_rows():
        years[place] = value
    born = recorded.filter((pl.col("code") == BIRTH) & pl.col("time").is_not_null())
    places = born["place"].to_numpy()
    years[places] = (store.cohort.prediction_times[rows[places]] - born["time"].to_numpy()) / _YEAR
    known = np.isfinite(years)
    if not known.any():
        return {}
    names = [f"under {_AGES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(_AGES))]
    band = np.searchsorted(_AGES, years, side="right")
    found = {f"age {name}": known & (band == i) for i, name in enumerate([*names, f"{_AGES[-1]} and over"])}
    return {name: here for name, here in found.items() if here.any()}


def by_site(store: Store, rows: Rows) -> Groups:
    """Group rows by the site of care last seen up to the prediction, where the dataset declares a column of sites."""
    column = store.dataset.site_column
    if column is None:
        return {}
    sites = _known(store, rows, pl.col(column).is_not_null(), column).group_by("place", maintain_order=True).last()
    of = np.full(len(rows), "", object)
    of[sites["place"].to_numpy()] = sites[column].cast(pl.String).to_numpy()
    return {f"site {each}": of == each for each in sorted(set(of) - {""})}


def _known(store: Store, rows: Rows, wanted: pl.Expr, *more: str) -> pl.DataFrame:
    """Return wanted events that were known at a row's prediction, in the order of time, with the row's place."""
    columns: list[Any] = ["subject_id", "time", "code", *more]
    frames = []
    for path in store.dataset.shards:
        if any(each not in table_schema(path) for each in more):
            continue
        needed = {"subject_id": INTEGER, "time": TIME, "code": TEXT, **dict.fromkeys(more, SITE)}
        table = read_table(path, needed, {"numeric_value": NUMBER}, only=True)
        value = pl.col("numeric_value") if "numeric_value" in table.columns else pl.lit(None)
        frames.append(table.filter(wanted).select(*columns, value.cast(pl.Float64)))
    cohort = store.cohort
    asked = pl.DataFrame(
        {
            "place": np.arange(len(rows)),
            "subject_id": cohort.subject_ids[rows],
            "until": cohort.prediction_times[rows],
        }
    )
    known = asked.join(pl.concat(frames), on="subject_id", how="inner", maintain_order="left_right")
    known = known.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("until")))
    return known.sort("place", "time", nulls_last=False, maintain_order=True)

"""Who has what at the prediction, and how frequent the label is among them; nobody is left out for lacking a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from experiments.data.folder import Dataset
from experiments.data.reader import BIRTH, NOTE, read_events
from experiments.tasks.counts import LEAST, share, shown
from experiments.tasks.definition import Predicate
from experiments.tasks.disclosure import HIDDEN, shown_parts, shown_positives
from experiments.tasks.predicates import meant

KINDS = {
    "vital signs": Predicate(codes=["VITAL//*"], but_not=("VITAL//height", "VITAL//weight", "VITAL//bmi")),
    "laboratory": Predicate(codes=["LAB//*", "MICRO//*"]),
    "drugs": Predicate(codes=["DRUG//*", "INFUSION//*", "MEDICATION//*", "HOME_DRUG//*"]),
    "diagnoses": Predicate(codes=["ICD*CM/*", "DIAGNOSIS//*", "DX//*", "ADMISSION_DX//*", "HISTORY//*"]),
}
_EVER = pl.datetime(1, 1, 1, time_unit="us")


def kinds_at(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Return which kinds of data each row has at its prediction.

    Shape:
        rows: subject_id, prediction_time -> the same with a boolean column a kind: vital signs, laboratory, drugs,
        diagnoses, other codes, notes, images.
    """
    parts = [_first_times(dataset, read_events(shard, dataset.image_column)) for shard in dataset.shards]
    first = pl.concat(parts).group_by("subject_id", "kind").agg(pl.col("first").min())
    names = [*KINDS, "other codes", "notes", "images"]
    found = rows.select("subject_id", "prediction_time").with_row_index("row")
    known = found.join(first, on="subject_id").filter(pl.col("first") <= pl.col("prediction_time"))
    columns = [pl.col("row").is_in(known.filter(pl.col("kind") == name)["row"].to_list()).alias(name) for name in names]
    return found.with_columns(columns).drop("row")


def _first_times(dataset: Dataset, events: pl.DataFrame) -> pl.DataFrame:
    """Return when each patient first had each kind of data; what has no time was always there."""
    codes = events["code"].unique().to_list()
    kind = {code: name for name, predicate in KINDS.items() for code in meant(predicate, codes)}
    image, text = dataset.image_column, "text_value"
    is_note = pl.col("code").str.starts_with(NOTE)
    has_text = pl.col(text).is_not_null() if text in events.columns else pl.lit(value=False)
    is_image = pl.col(image).is_not_null() if image and image in events.columns else pl.lit(value=False)
    named = pl.col("code").replace_strict(kind, default="other codes", return_dtype=pl.String)
    chosen = pl.when(is_image).then(pl.lit("images")).when(is_note & has_text).then(pl.lit("notes"))
    events = events.filter((pl.col("code") != BIRTH) & (~is_note | has_text))
    table = events.select("subject_id", kind=chosen.otherwise(named), first=pl.col("time").fill_null(_EVER))
    return table.group_by("subject_id", "kind").agg(pl.col("first").min())


def patterns(kinds: pl.DataFrame, truth: Mapping[str, pl.Series]) -> list[dict[str, Any]]:
    """Count rows, patients and the label by pattern, the most frequent first; small counts are not shown.

    Args:
        kinds: of `kinds_at`, a row a prediction.
        truth: for each label its boolean values, a row a prediction.
    """
    names = kinds.columns[2:]
    numbers = {f"label {place}": values for place, values in enumerate(truth.values())}
    table = kinds.with_columns(**numbers)
    sums = [pl.col(name).sum() for name in numbers]
    counted = table.group_by(names).agg(*sums, n=pl.len(), patients=pl.col("subject_id").n_unique())
    counted = counted.sort("n", *names, descending=True)
    rows = counted["n"].to_list()
    texts = shown_parts(rows)
    positives = shown_positives(counted["label 0"].to_list(), rows, texts) if len(truth) == 1 else [""] * len(rows)
    found = []
    for row, text, positive in zip(counted.iter_rows(named=True), texts, positives, strict=True):
        told, label = text == f"{row['n']:,}", {}
        if len(truth) == 1:
            exact = positive == f"{row['label 0']:,}"
            label = {"positive": positive, "prevalence": share(row["label 0"], row["n"]) if exact else ""}
        elif truth and told and row["n"] >= LEAST:
            label = {"labels a prediction": f"{sum(row[name] for name in numbers) / row['n']:.2f}"}
        patients = shown(row["patients"]) if told or row["patients"] < LEAST else HIDDEN
        found.append({"has": {name: row[name] for name in names}, "n": text, "patients": patients, **label})
    return found

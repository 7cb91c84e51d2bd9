"""What the tables of eICU tell of codes: the names of drugs, and ICD codes beside paths of diagnoses."""

from __future__ import annotations

from pathlib import Path

import polars as pl


def drug_names(parts: Path) -> dict[str, str]:
    """Return the name each drug number bears most often in orders and lists of drugs at home."""
    files = sorted([*parts.glob("*/medication.parquet"), *parts.glob("*/admissionDrug.parquet")])
    if not files:
        return {}
    code = pl.col("code").str.strip_prefix("HOME_")
    counts = pl.scan_parquet(files).drop_nulls("name").group_by(code, "name").len()
    best = counts.sort("code", "len", "name", descending=[False, True, False]).unique(
        "code", keep="first", maintain_order=True
    )
    return dict(best.select("code", "name").collect(engine="streaming").iter_rows())


def coded_as(parts: Path) -> pl.DataFrame:
    """Return the edges from diagnosis paths to the ICD codes written beside them."""
    files = sorted(parts.glob("*/diagnosis.parquet"))
    schema = {"head": pl.String, "relation": pl.String, "tail": pl.String}
    if not files:
        return pl.DataFrame(schema=schema)
    pairs = pl.scan_parquet(files).select("path", "icd").explode("icd").drop_nulls().unique()
    return pairs.select(head="path", relation=pl.lit("coded_as"), tail="icd").collect(engine="streaming")

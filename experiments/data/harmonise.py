"""A data folder in common units: numbers converted, outliers dropped or moved by rule, and all of it counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from experiments.data.folder import Dataset, open_dataset
from experiments.data.quality import counted
from experiments.data.tables import INTEGER, NUMBER, TEXT, TIME, read_table
from experiments.data.units import harmonised, measurements
from experiments.progress import progress_bar
from experiments.sources.folder import new_folder, write_json, write_table

_NEEDED = {"subject_id": INTEGER, "time": TIME, "code": TEXT}


def harmonise_folder(source: Path, out: Path, *, overwrite: bool = False, progress: bool = False) -> pl.DataFrame:
    """Write a folder like another, with known measurements in their canonical units; return what was counted.

    An event whose number is out of range is left out; labels, splits, codes, graph and images are copied.

    Raises:
        UsageError: the source is no data folder, a shard cannot be read, or `out` exists.
    """
    dataset = open_dataset(source)
    parts = []
    with new_folder(out, overwrite=overwrite) as folder:
        keep = shutil.ignore_patterns("*.parquet")
        for each in sorted(dataset.folder.iterdir()):
            if each.is_dir():
                shutil.copytree(
                    each, folder / each.name, ignore=keep if each.name == "data" else None, dirs_exist_ok=True
                )
            else:
                shutil.copyfile(each, folder / each.name)
        with progress_bar("harmonising", len(dataset.shards), enabled=progress) as advance:
            for shard in dataset.shards:
                parts.append(_shard(dataset, shard, folder))
                advance()
        found = _summed(parts)
        write_json(folder / "metadata" / "quality.json", {"measurements": found.to_dicts()})
    return found


def _shard(dataset: Dataset, shard: Path, folder: Path) -> pl.DataFrame:
    table = read_table(shard, _NEEDED, {"numeric_value": NUMBER, "unit": TEXT})
    kinds = {"numeric_value": pl.Float32(), "unit": pl.String()}
    absent = [pl.lit(None, kind).alias(name) for name, kind in kinds.items() if name not in table.columns]
    table = table.with_columns(absent)
    done = harmonised(table)
    target = folder / shard.relative_to(dataset.folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = done.filter((pl.col("fate") != "out of range").fill_null(value=True))
    write_table(kept.select(table.columns), target)
    return counted([table.filter(pl.col("code").is_in(measurements()["code"].to_list()))])


def _summed(parts: list[pl.DataFrame]) -> pl.DataFrame:
    keys = ["code", "unit", "range"]
    whole = pl.concat(parts).group_by(keys).agg(pl.exclude(keys).sum())
    return whole.select(parts[0].columns).sort("n", "code", descending=[True, False])

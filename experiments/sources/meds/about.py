"""What a copied MEDS dataset's codes mean, where it is from and what was done to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import Dataset
from experiments.sources.folder import write_codes, write_dataset
from experiments.sources.icd import icd_description, icd_parent
from experiments.sources.shards import codes_of
from experiments.sources.spelling import respelled

_KEPT = ("dataset_name", "dataset_version", "license", "location_uri", "description_uri")
_README = """# {name}, copied by ehrfusion

{patients:,} patients, {events:,} events, {codes:,} codes. Licence: {license}.

ICD codes are spelled `ICD10CM//I50.23`, with what is above them in `parent_codes`. Splits: {splits}. Columns of the
source that are not here: {unused}. `reconciliation.csv` says where every row went.
"""


def write_knowledge(folder: Path, dataset: Dataset) -> int:
    """Write the codes as the source describes them; ICD codes with what is above them."""
    table = dataset.code_table.drop_nulls("code").with_columns(code=pl.col("code").map_elements(respelled, pl.String))
    table = table.unique("code", keep="first", maintain_order=True)
    said, above = dict[str, str](), dict[str, list[str]]()
    has_text, has_parents = ("description" in table.columns, "parent_codes" in table.columns)
    for row in table.iter_rows(named=True):
        if has_text and row["description"]:
            said[row["code"]] = row["description"]
        if has_parents and row["parent_codes"]:
            above[row["code"]] = [each for each in map(respelled, row["parent_codes"]) if each != row["code"]]
    waiting, parents = [*codes_of(folder)], dict[str, list[str]]()
    while waiting:
        code = waiting.pop()
        if code not in parents:
            mine = icd_parent(code)
            parents[code] = sorted({*above.get(code, ()), *([mine] if mine else [])})
            waiting += parents[code]
    texts = {each: text for each in parents if (text := said.get(each) or icd_description(each))}
    return write_codes(folder, parents, texts, parents)


def write_about(folder: Path, dataset: Dataset, summary: dict[str, Any]) -> None:
    """Write what the data are and what was done to them."""
    about = {name: value for name in _KEPT if (value := dataset.metadata.get(name))}
    if dataset.site_column:
        about["site_id_columns"] = [dataset.site_column]
    if dataset.image_column:
        about["additional_value_modality_columns"] = [dataset.image_column]
    write_dataset(folder, **about)
    text = _README.format(
        name=about.get("dataset_name", "MEDS dataset"),
        license=about.get("license", "as the source"),
        splits="those of the source" if summary["splits_kept"] else "made by patient",
        unused=", ".join(summary["unused"]) or "none",
        **{name: summary[name] for name in ("patients", "events", "codes")},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")

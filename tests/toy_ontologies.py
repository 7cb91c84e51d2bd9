"""Small data folders and OBO files by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from encoders.records import Edge
from experiments.data.folder import open_dataset
from experiments.sources.folder import new_folder, write_codes, write_dataset, write_edges, write_events

WITHOUT = "of the extra `ontologies` is not installed"
OBO = """format-version: 1.2
data-version: toy/2026

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001 ! All

[Term]
id: HP:0001250
name: Seizure
alt_id: HP:0002279
xref: ICD10CM:G40.909 {source="by hand"}
xref: UMLS:C0036572
is_a: HP:0000118 {source="x"} ! Phenotypic abnormality
relationship: part_of HP:0012638 ! Nervous system physiology

[Term]
id: HP:0012638
name: Abnormal nervous system physiology
is_a: HP:0000118

[Term]
id: HP:0000057
name: obsolete Clitoromegaly
is_obsolete: true
replaced_by: HP:0001250

[Term]
id: HP:0000099
name: obsolete without heir
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


def folder_of(
    path: Path,
    codes: Mapping[str, int],
    *,
    shards: int = 1,
    parents: Mapping[str, Sequence[str]] | None = None,
    edges: Iterable[tuple[str, str, str]] = (),
) -> Path:
    """Write a folder in which the first so many patients have each code, once, in shards of ten patients."""
    with new_folder(path) as folder:
        rows = [(patient, datetime(2026, 1, 1), code) for code, most in codes.items() for patient in range(most)]
        events = pl.DataFrame(rows, schema=["subject_id", "time", "code"], orient="row")
        for shard in range(shards):
            write_events(folder, shard, events.filter(pl.col("subject_id") % shards == shard))
        write_codes(folder, codes, {}, parents or {})
        if edges := list(edges):
            write_edges(folder, pl.DataFrame(edges, schema=["head", "relation", "tail"], orient="row"))
        write_dataset(folder, dataset_name="toy")
    return path


def facts_of(folder: Path) -> set[tuple[str, str, str]]:
    """Return all facts that graph encoders would read."""
    return {tuple(edge) for edge in open_dataset(folder).knowledge().edges}  # type: ignore[misc]


def is_a(*pairs: tuple[str, str]) -> set[tuple[str, str, str]]:
    return {tuple(Edge(child, "is_a", parent)) for child, parent in pairs}  # type: ignore[misc]

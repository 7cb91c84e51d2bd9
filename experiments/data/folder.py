"""A data folder in MEDS 0.4: where things are, what its codes mean, and a hash of its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from encoders.records import Edge, Knowledge
from fusion.component import UsageError, unknown

SPLITS = ("train", "tuning", "held_out")


@dataclass(frozen=True)
class Dataset:
    """An open data folder; nothing is read before it is asked for."""

    folder: Path

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What `metadata/dataset.json` says; empty where it is absent."""
        path = self.folder / "metadata" / "dataset.json"
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path}: not readable as JSON: {error}") from None
        return dict(found)

    @cached_property
    def shards(self) -> list[Path]:
        """The event files, in a fixed order."""
        return sorted((self.folder / "data").rglob("*.parquet"))

    @property
    def image_column(self) -> str | None:
        """The column that holds image paths, if the dataset declares one."""
        declared = self.metadata.get("additional_value_modality_columns") or []
        return str(declared[0]) if declared else None

    @property
    def site_column(self) -> str | None:
        """The column that holds the site of care, if the dataset declares one."""
        declared = self.metadata.get("site_id_columns") or []
        return str(declared[0]) if declared else None

    @property
    def code_table(self) -> pl.DataFrame:
        """Codes with descriptions and parents; empty where `metadata/codes.parquet` is absent."""
        path = self.folder / "metadata" / "codes.parquet"
        if not path.is_file():
            return pl.DataFrame(
                schema={"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
            )
        return pl.read_parquet(path)

    def knowledge(self) -> Knowledge:
        """Return descriptions, molecules and the graph: `graph/edges.parquet`, and parents as `is_a` edges.

        Molecules are in an optional column `smiles` of `metadata/codes.parquet`.

        Raises:
            UsageError: a column is missing or is of another type.
        """
        codes = self.code_table
        described = codes.filter(pl.col("description").is_not_null()) if "description" in codes.columns else codes[:0]
        descriptions = dict(zip(described["code"].to_list(), described["description"].to_list(), strict=True))
        edges: list[Edge] = []
        if "parent_codes" in codes.columns:
            pairs = (
                codes.select("code", "parent_codes").explode("parent_codes").drop_nulls().unique(maintain_order=True)
            )
            edges += [Edge(child, "is_a", parent) for child, parent in pairs.iter_rows()]
        path = self.folder / "graph" / "edges.parquet"
        if path.is_file():
            table = pl.read_parquet(path)
            missing = {"head", "relation", "tail"} - set(table.columns)
            if missing:
                raise UsageError(f"{path}: missing column '{min(missing)}'; got {', '.join(table.columns)}")
            edges += [Edge(*row) for row in table.select("head", "relation", "tail").iter_rows()]
        return Knowledge(tuple(edges), descriptions, self._smiles(codes))

    def _smiles(self, codes: pl.DataFrame) -> dict[str, str]:
        if "smiles" not in codes.columns:
            return {}
        kind = codes.schema["smiles"]
        if kind not in (pl.String, pl.Null):
            path = self.folder / "metadata" / "codes.parquet"
            raise UsageError(f"{path}: column 'smiles' must be String; got {kind}")
        return dict(codes.select("code", "smiles").drop_nulls().iter_rows())

    def flow(self) -> dict[str, list[dict[str, Any]]]:
        """Return, for each label, the steps from everybody in the source to those predicted; empty if not recorded."""
        path = self.folder / "cohort.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))["labels"]) if path.is_file() else {}

    def label_path(self, labels: str) -> Path:
        """Find a label file or folder by its name (`outcome`) or path (`labels/outcome.parquet`).

        Raises:
            UsageError: there is none; the message has the nearest name.
        """
        for path in (
            self.folder / "labels" / f"{labels}.parquet",
            self.folder / "labels" / labels,
            self.folder / labels,
        ):
            if path.exists():
                return path
        known = [path.stem for path in (self.folder / "labels").glob("*")]
        raise unknown("label", labels, known, str(self.folder))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content of events, codes, graph and images; not over when or where they were written."""
        digest = hashlib.sha256()
        files = [
            *self.shards,
            self.folder / "metadata" / "codes.parquet",
            self.folder / "graph" / "edges.parquet",
        ]
        for path in [each for each in files if each.is_file()]:
            digest.update(path.relative_to(self.folder).as_posix().encode())
            digest.update(_file_digest(path))
        for path in sorted((self.folder / "images").rglob("*")) if self.image_column else []:
            if path.is_file():
                digest.update(f"{path.relative_to(self.folder).as_posix()}:{path.stat().st_size}".encode())
                digest.update(_file_digest(path))
        return digest.hexdigest()


def open_dataset(folder: Path) -> Dataset:
    """Open a data folder.

    Raises:
        UsageError: it does not exist or is no MEDS folder; the message says what is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        near = [each.name for each in folder.parent.glob("*") if each.is_dir()] if folder.parent.is_dir() else []
        raise unknown("data folder", folder.name, near, str(folder.parent))
    dataset = Dataset(folder)
    if not dataset.shards:
        raise UsageError(f"{folder} is no MEDS folder: no parquet file under {folder / 'data'}")
    return dataset


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

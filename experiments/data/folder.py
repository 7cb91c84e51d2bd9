"""A data folder in MEDS 0.4: where things are, what its codes mean, and a hash of its content."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from encoders.records import Edge, Knowledge, Measure, UnreadableImage
from experiments.data.measures import folder_measures
from experiments.data.tables import INTEGER, TEXT, TEXTS, TIME, check_filled, read_table
from experiments.tasks.load import task_names
from fusion.component import UsageError, unknown

SPLITS = ("train", "tuning", "held_out")
OUTSIDE = "leads out of the data folder, by '..', a root or a link"
SPLIT_FILE = "metadata/subject_splits.parquet"
UNPREDICTABLE_FILE = "metadata/unpredictable.parquet"


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
        return read_json(path)

    @cached_property
    def shards(self) -> list[Path]:
        """The event files, in a fixed order."""
        return sorted((self.folder / "data").rglob("*.parquet"))

    @property
    def image_column(self) -> str | None:
        """The column that holds image paths, if the dataset declares one."""
        return self._declared("additional_value_modality_columns")

    @property
    def site_column(self) -> str | None:
        """The column that holds the site of care, if the dataset declares one."""
        return self._declared("site_id_columns")

    def _declared(self, key: str) -> str | None:
        names = self.metadata.get(key) or [None]
        if isinstance(names, list) and (names[0] is None or isinstance(names[0], str)):
            return names[0]
        raise UsageError(f"{self.folder / 'metadata' / 'dataset.json'}: '{key}' must be a list of names of columns")

    @property
    def code_table(self) -> pl.DataFrame:
        """Codes with descriptions and parents; empty where `metadata/codes.parquet` is absent."""
        path = self.folder / "metadata" / "codes.parquet"
        if not path.is_file():
            return pl.DataFrame(
                schema={"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
            )
        return read_table(path, {"code": TEXT}, {"description": TEXT, "parent_codes": TEXTS, "smiles": TEXT})

    @cached_property
    def splits(self) -> pl.DataFrame | None:
        """Subjects and the folder's own splits, each pair once; None where the folder has none.

        Raises:
            UsageError: a column is missing, of another type or has a null.
        """
        path = self.folder / SPLIT_FILE
        if not path.is_file():
            return None
        table = read_table(path, {"subject_id": INTEGER, "split": TEXT}, only=True)
        check_filled(path, table, ["subject_id", "split"])
        return table.unique(maintain_order=True)

    @cached_property
    def unpredictable(self) -> pl.DataFrame | None:
        """When the source cannot tell what a patient's past was, or how a stay ended; None where it says nothing of it.

        Shape:
            -> columns subject_id, start, end; both bounds are part of it.

        Raises:
            UsageError: a column is missing, of another type or has a null.
        """
        path = self.folder / UNPREDICTABLE_FILE
        if not path.is_file():
            return None
        table = read_table(path, {"subject_id": INTEGER, "start": TIME, "end": TIME}, only=True)
        check_filled(path, table, table.columns)
        return table

    def knowledge(self) -> Knowledge:
        """Return descriptions, molecules and the graph: `graph/edges.parquet`, and parents as `is_a` edges.

        Molecules are in an optional column `smiles` of `metadata/codes.parquet`.

        Raises:
            UsageError: a column is missing or is of another type.
        """
        codes = self.code_table.drop_nulls("code")
        edges: list[Edge] = []
        if codes.schema.get("parent_codes", pl.Null) != pl.Null:
            pairs = (
                codes.select("code", "parent_codes").explode("parent_codes").drop_nulls().unique(maintain_order=True)
            )
            edges += [Edge(child, "is_a", parent) for child, parent in pairs.iter_rows()]
        path = self.folder / "graph" / "edges.parquet"
        if path.is_file():
            table = read_table(path, dict.fromkeys(("head", "relation", "tail"), TEXT), only=True)
            check_filled(path, table, table.columns)
            edges += [Edge(*row) for row in table.select("head", "relation", "tail").iter_rows()]
        return Knowledge(tuple(edges), _said(codes, "description"), _said(codes, "smiles"))

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """What the numbers of codes mean: unit and reference range. Every event file is looked at for that.

        Raises:
            UsageError: one cannot be read.
        """
        return folder_measures(self.shards)

    def image(self, name: str) -> Path:
        """Return where an image of the events lies.

        Raises:
            UsageError: it would lie outside the folder.
        """
        path = self.folder / name
        if not is_inside(self.folder, path):
            raise UsageError(f"{self.place_of(path)}: {OUTSIDE}")
        return path

    def place_of(self, image: Path) -> str:
        """Name the row that an image belongs to instead of its file, whose name may be a patient's."""
        column = self.image_column or ""
        for shard in self.shards if column else []:
            table = read_table(shard, {}, {column: TEXT}, only=True)
            names = table[column].to_list() if column in table.columns else []
            row = next(
                (row for row, name in enumerate(names) if name is not None and self.folder / name == image), None
            )
            if row is not None:
                return f"{shard}: row {row}: {column}"
        return str(self.folder)

    def placed(self, error: UnreadableImage) -> UnreadableImage:
        """Return the error of an image with the row it belongs to."""
        return UnreadableImage(error.path, error.why, self.place_of(error.path))

    def flow(self) -> dict[str, list[dict[str, Any]]]:
        """Return, for each label, the steps from everybody in the source to those predicted; empty if not recorded."""
        path = self.folder / "cohort.json"
        found = read_json(path).get("labels", {}) if path.is_file() else {}
        steps = found.values() if isinstance(found, dict) else [None]
        if not all(isinstance(each, list) and all(map(_is_step, each)) for each in steps):
            raise UsageError(f"{path}: 'labels' must give each label a list of steps with 'step' and 'n'")
        return found

    def label_path(self, labels: str) -> Path:
        """Find a label file or folder by its name (`outcome`) or path (`labels/outcome.parquet`).

        Raises:
            UsageError: there is none in the folder; the message has the nearest name.
        """
        for name in (f"labels/{labels}.parquet", f"labels/{labels}", labels):
            path = self.folder / name
            if os.path.exists(path):  # noqa: PTH110 - False for a name that no file can have
                if not is_inside(self.folder, path) or path.samefile(self.folder):
                    raise UsageError(
                        f"{self.folder}: label '{labels}' leads out of the data folder; give a name in labels"
                    )
                return path
        known = [path.stem for path in (self.folder / "labels").glob("*")]
        if labels in task_names():
            command = f"ehrfusion tasks {labels} --on {self.folder}"
            raise UsageError(f"{self.folder}: no label '{labels}' yet; make it with: {command}")
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


def _said(codes: pl.DataFrame, column: str) -> dict[str, str]:
    """Return what a column says of the codes of which it says something."""
    if column not in codes.columns:
        return {}
    return dict(codes.select("code", column).drop_nulls().iter_rows())


def _is_step(step: Any) -> bool:
    return isinstance(step, dict) and isinstance(step.get("step"), str) and isinstance(step.get("n"), int)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        UsageError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "it is no UTF-8 text, or nested too deeply"
        raise UsageError(f"{path}: not readable as JSON: {why}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected a JSON object; got {type(found).__name__}")
    return found


def is_inside(folder: Path, path: Path) -> bool:
    """Tell whether a path lies in a folder once `..` and links are followed; the folder itself may be a link."""
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # a name that no file can have
        return False


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

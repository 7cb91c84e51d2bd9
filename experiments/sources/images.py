"""Copying the images of a source: each once, under a number, for a file's name may be a patient's."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from experiments.data.folder import is_inside

ABSENT = "the image is not in the folder"


@dataclass
class Images:
    """The images copied so far into `folder/images`."""

    folder: Path
    places: dict[str, str] = field(default_factory=dict)

    def copy(self, source: Path, names: pl.Series) -> pl.Series:
        """Copy the images that lie in `source` and return their places; null where there is none.

        Shape: (N,) text -> (N,) text.
        """
        placed = {name: self._place(source, name) for name in names.drop_nulls().unique(maintain_order=True)}
        return names.replace_strict(placed, default=None, return_dtype=pl.String)

    def _place(self, source: Path, name: str) -> str | None:
        path = source / name
        if not is_inside(source, path) or not path.is_file():
            return None
        if str(path) not in self.places:
            target = self.folder / "images" / f"{len(self.places) + 1:07d}{path.suffix.lower()}"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            self.places[str(path)] = target.relative_to(self.folder).as_posix()
        return self.places[str(path)]

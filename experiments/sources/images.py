"""Laying the images of a source into a data folder, which must hold all it names: by copies or by hard links."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from experiments.data.folder import is_inside
from fusion.component import UsageError

ABSENT = "the image is not in the folder"
Placing = Literal["link", "copy"]


@dataclass
class Images:
    """The images copied so far into `folder/images`, each once, under a number: a file's name may be a patient's."""

    folder: Path
    places: dict[str, str] = field(default_factory=dict)

    def copy(self, source: Path, names: pl.Series) -> pl.Series:
        """Copy the images that lie in `source` and return their places; null where there is none.

        Shape: (N,) text -> (N,) text.
        """
        placed = {name: self._place(source, name) for name in names.drop_nulls().unique(maintain_order=True)}
        return names.replace_strict(placed, default=None, return_dtype=pl.String)

    def since(self, number: int) -> dict[str, str]:
        """Return the places of images, without the first so many."""
        return dict(list(self.places.items())[number:])

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


def place_image(source: Path, inside: Path, folder: Path, placing: Placing) -> str | None:
    """Lay `source/inside` into `folder/images/inside` and return its place; None where there is no such image.

    A hard link takes no room: it is the same file under a second name, so it is no way out of the data folder. That
    the link is made anew each time lets a conversion that was interrupted go on.

    Raises:
        UsageError: the folder is on another file system, or the system forbids the link.
    """
    path, target = source / inside, folder / "images" / inside
    if not is_inside(source, path) or not path.is_file():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if placing == "copy":
        shutil.copyfile(path, target)
    else:
        try:
            os.link(os.path.realpath(path), target)
        except OSError as error:
            why = f"{source}: images cannot be hard-linked into the data folder ({error.strerror})"
            raise UsageError(f"{why}; put it on the same file system, or say --images copy") from None
    return target.relative_to(folder).as_posix()

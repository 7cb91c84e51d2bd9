"""Times of large tables: a row with one that cannot be read is counted, a column of nothing else is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from experiments.sources.tables import Kind, read_pieces
from fusion.component import UsageError

_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")


def read_timed(path: Path, columns: Mapping[str, Kind]) -> Iterator[tuple[pl.DataFrame, dict[str, int]]]:
    """Yield pieces as `read_pieces` does, without the rows whose time cannot be read, and how many those are and why.

    Raises:
        UsageError: as `read_pieces` does, or none of a piece's times in a column can be read.
    """
    names = [name for name, kind in columns.items() if kind == "time"]
    as_text: dict[str, Kind] = {name: "text" if kind == "time" else kind for name, kind in columns.items()}
    for piece in read_pieces(path, as_text):
        parsed = piece.with_columns(_time(name) for name in names)
        wrong = [piece[name].is_not_null() & parsed[name].is_null() for name in names]
        reasons: dict[str, int] = {}
        good = pl.Series([True]).new_from_index(0, piece.height)
        for name, mistaken in zip(names, wrong, strict=True):
            if mistaken.any() and parsed[name].is_null().all():
                raise UsageError(f"{path}: column '{name}' must be time; got another type")
            if fresh := int((mistaken & good).sum()):
                reasons[f"no readable time in {name}"] = fresh
            good &= ~mistaken
        yield parsed.filter(good), reasons


def _time(name: str) -> pl.Expr:
    text = pl.col(name)
    return pl.coalesce([text.str.to_datetime(each, strict=False, time_unit="us") for each in _FORMATS]).alias(name)

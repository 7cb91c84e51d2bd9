"""A table of MIMIC, what its rows say, and what they need to know from other tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from experiments.sources.mimic.films import Films
from experiments.sources.tables import Kind


@dataclass(frozen=True)
class Known:
    """What the small tables tell about the rows of the large ones.

    Shape:
        admissions: columns hadm_id, left (last moment of the hospital stay). visits (to the emergency department):
        columns stay_id, arrived, closed. items, labs: names by itemid.
        films: the chest X-rays, where there are any.
    """

    admissions: pl.DataFrame
    visits: pl.DataFrame
    items: Mapping[int, str] = field(default_factory=dict)
    labs: Mapping[int, str] = field(default_factory=dict)
    films: Films | None = None

    def with_left(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Add to rows with hadm_id when the hospital stay ended: billing codes are known from then on."""
        return piece.join(self.admissions, on="hadm_id", how="left", maintain_order="left")

    def with_visit(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Add to rows with stay_id when the visit to the emergency department began and was closed."""
        return piece.join(self.visits, on="stay_id", how="left", maintain_order="left")


@dataclass(frozen=True)
class Table:
    """A table of the release: the columns needed, and the facts in a piece of it.

    A table with `aside` gives no events: these columns are kept for the table that needs them, and `why` says so.
    """

    name: str
    columns: Mapping[str, Kind]
    facts: Callable[[pl.DataFrame, Known], pl.DataFrame]
    aside: tuple[str, ...] = ()
    why: str = ""

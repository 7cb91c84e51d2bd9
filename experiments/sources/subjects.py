"""Patients as they are met: each keeps its number, or gets one, and stays in one shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from experiments.sources.folder import write_table

Ids = Literal["integer", "text"]


class Subjects:
    """The patients met so far.

    Args:
        ids: whole numbers are subject ids themselves; texts are numbered from 1 in the order they are met.
        shards: into how many shards they are dealt, in turn.
    """

    def __init__(self, ids: Ids, shards: int) -> None:
        self.ids, self.shards = ids, shards
        kind = pl.Int64() if ids == "integer" else pl.String()
        self._met = pl.DataFrame(schema={"patient": kind, "subject_id": pl.Int64(), "shard": pl.Int64()})

    def __len__(self) -> int:
        return self._met.height

    @property
    def numbered(self) -> pl.DataFrame:
        """Columns subject_id and shard of all who were met."""
        return self._met.select("subject_id", "shard")

    def meet(self, piece: pl.DataFrame, patient: str) -> pl.DataFrame:
        """Add the column subject_id to rows with patients, null where there is none, and remember who is new."""
        fresh = piece.select(patient=pl.col(patient)).drop_nulls().unique(maintain_order=True)
        self._add(fresh.join(self._met, on="patient", how="anti", maintain_order="left"))
        return self.number_of(piece, patient)

    def _add(self, fresh: pl.DataFrame) -> None:
        if fresh.height:
            number = pl.int_range(len(self), len(self) + fresh.height)
            subject = pl.col("patient") if self.ids == "integer" else number + 1
            added = fresh.with_columns(subject_id=subject, shard=number % self.shards)
            self._met = pl.concat([self._met, added])

    def since(self, number: int) -> list[int | str]:
        """Return the patients in the order they were met, without the first so many."""
        return self._met["patient"][number:].to_list()

    def remember(self, met: Sequence[int | str], before: int) -> None:
        """Meet the patients that were met after the first so many, as `since` returned them; again does no harm."""
        self._add(pl.DataFrame({"patient": met[len(self) - before :]}, schema={"patient": self._met["patient"].dtype}))

    def number_of(self, piece: pl.DataFrame, patient: str) -> pl.DataFrame:
        """Add the column subject_id to rows with patients, null where there is none or nobody met."""
        known = self._met.select(pl.col("patient").alias(patient), "subject_id")
        return piece.join(known, on=patient, how="left", maintain_order="left")

    def write(self, folder: Path) -> None:
        """Write which number stands for which patient, where they are not the same."""
        if self.ids == "text":
            table = self._met.select("subject_id", "patient").sort("subject_id")
            write_table(table, folder / "metadata" / "subjects.parquet")

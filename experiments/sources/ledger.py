"""Where every row of the source went: into events, or not, and why."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

OUTSIDE = "outside what is plausible: "
REPEATED = "says what another row says"
STRANGER = "of a patient who is not in patients"


@dataclass
class Tally:
    """The rows of a table, the facts in them (one a row, or one a filled column), and what became of the facts.

    Always facts = events + everything left out.
    """

    rows: int = 0
    facts: int = 0
    events: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, table: pl.DataFrame, patients: pl.DataFrame) -> pl.DataFrame:
        """Count facts and return those that are events; `events` counts them until repetitions are known."""
        known = table.join(patients, on="subject_id", how="left", maintain_order="left")
        stranger = pl.when(pl.col("shard").is_null()).then(pl.lit(STRANGER))
        judged = known.with_columns(why=pl.coalesce("why", stranger)).drop("shard")
        self.facts += judged.height
        self.left_out.update(dict(judged.drop_nulls("why").group_by("why").len().sort("why").iter_rows()))
        kept = judged.filter(pl.col("why").is_null()).drop("why")
        self.events += kept.height
        return kept

    def skip(self, rows: int, why: str) -> None:
        """Count rows none of which is an event."""
        self.rows += rows
        self.facts += rows
        self.left_out[why] += rows

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"rows": self.rows, "facts": self.facts, "events": self.events, "left_out": dict(self.left_out)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Tally:
        """Return the tally that `plain` wrote."""
        return cls(data["rows"], data["facts"], data["events"], Counter(data["left_out"]))

    def add(self, other: Tally) -> None:
        """Add what was counted of other rows of the table."""
        self.rows += other.rows
        self.facts += other.facts
        self.events += other.events
        self.left_out.update(other.left_out)

    def withdraw(self, number: int, why: str = REPEATED) -> None:
        """Count events that are none after all; without a reason they were there already."""
        if number:
            self.events -= number
            self.left_out[why] += number


def counted(
    tally: Tally, patients: pl.DataFrame, facts: Callable[[pl.DataFrame], pl.DataFrame]
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return the function that makes events of a piece of a table and counts on the way."""

    def take(piece: pl.DataFrame) -> pl.DataFrame:
        tally.rows += piece.height
        return tally.take(facts(piece), patients)

    return take


def plain(ledger: Mapping[str, Tally]) -> dict[str, dict[str, Any]]:
    """Return the ledger as plain data."""
    return {name: each.plain() for name, each in ledger.items()}


def write_ledger(path: Path, ledger: Mapping[str, Tally]) -> None:
    """Write one line a table and number: rows, facts, events, and each reason."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "what", "n"])
        for name, each in ledger.items():
            writer.writerows([[name, "rows", each.rows], [name, "facts", each.facts], [name, "events", each.events]])
            writer.writerows([name, f"left out: {why}", n] for why, n in each.left_out.most_common())


def render(tables: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the reconciliation as a table for the terminal; what is implausible in one number a table."""
    from rich.table import Table

    shown = Table(title="where every row of the source went (facts = events + left out)")
    for name in ("table", "rows", "facts", "events"):
        shown.add_column(name, justify="left" if name == "table" else "right", no_wrap=True)
    shown.add_column("left out")
    for name, each in tables.items():
        reasons: Counter[str] = Counter()
        for why, n in each["left_out"].items():
            reasons[OUTSIDE.strip(": ") if why.startswith(OUTSIDE) else why] += n
        numbers = [f"{each[what]:,}" for what in ("rows", "facts", "events")]
        shown.add_row(name, *numbers, "; ".join(f"{why} {n:,}" for why, n in reasons.most_common()) or "none")
    return shown

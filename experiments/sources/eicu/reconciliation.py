"""Where every row of eICU's tables went: what is counted while tables become events, as a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from experiments.sources.ledger import REPEATED, Tally
from experiments.sources.pieces import Origin, header_of, raw_pieces

NOTHING = "nothing in the row that is read"
UNKNOWN = "of a unit stay that is not in patient"
TOGETHER = "one event or note with another row"
LATE = "more than 30 days after the hospital stay"
NOT_READ = {
    "apachePatientResult": "holds outcomes and predictions",
    "apachePredVar": "holds outcomes and predictions",
    "hospital": "about hospitals; read with the patients",
    "microLab": "no time of the result",
}
_OTHER = "not among the tables that are read"


def count_events(events: pl.DataFrame, late: int) -> dict[str, int]:
    """Count the events of a table and shard; `events` are those in time, beside which so many are late."""
    return {"made": events.height + late, "late": late, "unlike": events.unique().height}


@dataclass
class Reconciliation:
    """Counts by table: rows read, what was kept of them, events made, those too late, and those unlike each other."""

    laid: dict[str, Mapping[str, int]] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    unlike: Counter[str] = field(default_factory=Counter)
    others: dict[str, Tally] = field(default_factory=dict)

    def see(self, name: str, counts: Mapping[str, int]) -> None:
        """Add what `count_events` counted of a table in one shard."""
        self.made[name] += counts["made"]
        self.late[name] += counts["late"]
        self.unlike[name] += counts["unlike"]

    def see_unread(self, src: Path, known: Collection[str]) -> None:
        """Count the rows of the tables of which none is an event."""
        reasons = {name.lower(): why for name, why in NOT_READ.items()}
        for path in sorted((*src.glob("*.csv"), *src.glob("*.csv.gz"))):
            name = path.name.partition(".")[0]
            if name.lower() not in {each.lower() for each in known} and path.stat().st_size:
                tally = self.others.setdefault(name, Tally())
                tally.skip(_rows(path), reasons.get(name.lower(), _OTHER))

    def ledger(self, written: int) -> dict[str, Tally]:
        """Return facts, events and reasons by table; `written` is how many events there are in the end.

        Facts are rows, or what was found in them where that is more: filled cells, codes beside a diagnosis.
        """
        found = {name: self._tally(name, counts) for name, counts in self.laid.items()}
        twice = sum(each.events for each in found.values()) - written
        if twice:  # the same in two tables
            found["several tables"] = Tally(events=-twice, left_out=Counter({REPEATED: twice}))
        return found | self.others

    def _tally(self, name: str, counts: Mapping[str, int]) -> Tally:
        rows, kept, made, late = counts["rows"], counts["kept"], self.made[name], self.late[name]
        unknown = counts.get("unknown", 0)
        found = kept + unknown
        tally = Tally(rows, max(rows, found) + max(0, made - kept), self.unlike[name])
        reasons = {NOTHING: rows - found, UNKNOWN: unknown, TOGETHER: kept - made, LATE: late}
        reasons[REPEATED] = made - late - self.unlike[name]
        tally.left_out.update({why: number for why, number in reasons.items() if number > 0})
        return tally


def _rows(path: Path) -> int:
    origin = Origin(str(path), path)
    return sum(piece.height for _, piece in raw_pieces(origin, header_of(origin)[:1]))

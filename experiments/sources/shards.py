"""From what was laid apart to event files: shard by shard, each fact once, nothing impossible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion
from experiments.sources.facts import FACT
from experiments.sources.folder import write_events
from experiments.sources.ledger import REPEATED, Tally
from experiments.sources.tables import Parts

EVENT = tuple(name for name in FACT if name != "why")
_SHARD_BYTES = 16 * 2**20  # of tables as text, whose events are held at once; that takes about 15 times as much
_MOST_SHARDS = 512  # each keeps a file open while tables are laid apart
_Withdrawn = tuple[str, str, int]  # table, why, how many of its events are none
_PACKED = 8  # how much smaller text is when packed, about


def shards_for(paths: Iterable[Path]) -> int:
    """Return into how many shards the events of some files should go, by their sizes."""
    packed = (".gz", ".parquet")
    sizes = [path.stat().st_size * (_PACKED if path.suffix.lower() in packed else 1) for path in paths]
    return min(_MOST_SHARDS, max(1, -(-sum(sizes) // _SHARD_BYTES)))


def write_shards(
    job: Conversion,
    shards: Sequence[int],
    ledger: Mapping[str, Tally],
    read: Callable[[str, Parts], pl.DataFrame | None],
    *,
    judge: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    extra: Sequence[str] = (),
    progress: bool = False,
) -> int:
    """Write each shard's events from the parts; count those that repeat another, and return the number of events.

    Args:
        read: the events of a table in a shard.
        judge: adds a column `why` to all events of a shard; where it is not null, the event is none.
        extra: further text columns.
    """
    columns, events = [*EVENT, *extra], 0
    with progress_bar("writing shards", len(shards), enabled=progress) as advance:
        for shard in shards:

            def write(shard: int = shard) -> tuple[int, list[_Withdrawn]]:
                parts = Parts(job.parts / f"{shard:05d}")
                frames = [
                    frame.select(*columns, table=pl.lit(name))
                    for name in ledger
                    if (frame := read(name, parts)) is not None
                ]
                if not frames:
                    return 0, []
                everything = pl.concat(frames)
                del frames
                everything, wrong = (everything, []) if judge is None else _judged(judge(everything))
                everything, again = _once(everything, columns)
                return write_events(job.folder, shard, everything, extra), [*wrong, *again]

            written, withdrawn = job.steps.once(f"shard {shard}", write)
            events += written
            for name, why, number in withdrawn:
                ledger[name].withdraw(number, why)
            advance()
    return events


def _judged(events: pl.DataFrame) -> tuple[pl.DataFrame, list[_Withdrawn]]:
    wrong = events.drop_nulls("why").group_by("table", "why").len().sort("table", "why")
    return events.filter(pl.col("why").is_null()).drop("why"), wrong.rows()


def _once(events: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, list[_Withdrawn]]:
    once = events.unique(subset=list(columns), keep="first", maintain_order=True)
    before, after = (dict(each.group_by("table").len().sort("table").iter_rows()) for each in (events, once))
    return once.drop("table"), [(name, REPEATED, number - after.get(name, 0)) for name, number in before.items()]


def in_order_of_life(events: pl.DataFrame) -> pl.DataFrame:
    """Judge births: one after the patient's death, or after another birth of the same patient, is none.

    Shape:
        events: columns subject_id, time, code, ... -> the same and why.
    """
    born, died = (pl.col("code") == code for code in ("MEDS_BIRTH", "MEDS_DEATH"))
    death = pl.col("time").filter(died).min().over("subject_id")
    birth = pl.col("time").filter(born).min().over("subject_id")
    return events.with_columns(
        why=pl.when(born & (pl.col("time") > death))
        .then(pl.lit("birth after death"))
        .when(born & (pl.col("time") > birth))
        .then(pl.lit("another birth of the patient"))
    )


def codes_of(folder: Path) -> set[str]:
    """Return the codes of the events of a folder."""
    files = sorted((folder / "data").glob("*.parquet"))
    return {code for file in files for code in pl.read_parquet(file, columns=["code"])["code"].unique()}

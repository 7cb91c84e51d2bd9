"""Facts in CSV or TSV files, as PrimeKG and Hetionet publish them: read in pieces, whatever their size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from experiments.ontologies.obo import term_spellings
from experiments.ontologies.ontology import NAMES, Ontology, Piece
from experiments.progress import progress_bar
from experiments.sources.tables import read_header, read_pieces
from fusion.component import UsageError

_NUMBERED = r"^(MONDO|HPO|UBERON|GO):(\d{1,7})$"
_TABS = (".tsv", ".tab", ".sif")


class Layout(NamedTuple):
    """Which columns a fact is in; `x_source+x_id` joins two by a colon, as MONDO:5009."""

    columns: tuple[str, str, str]
    names: tuple[str, str] | None = None
    known_as: str = ""


LAYOUTS = (
    Layout(("head", "relation", "tail")),
    Layout(("x_source+x_id", "display_relation", "y_source+y_id"), ("x_name", "y_name"), "PrimeKG"),
    Layout(("source", "metaedge", "target"), None, "Hetionet"),
)


def triple_file(path: Path, columns: Sequence[str] | None = None, names: Sequence[str] | None = None) -> Ontology:
    """Return the facts of a CSV or TSV file, plain or gzipped; relations keep their kinds.

    Args:
        columns: of head, relation and tail; those of a known layout where it is not given.
        names: columns of what head and tail are called.

    Raises:
        UsageError: the columns are not said and no known ones, or, when it is read, it is damaged.
    """
    separator = "\t" if path.with_suffix("" if path.suffix == ".gz" else path.suffix).suffix in _TABS else ","
    layout = _layout(path, read_header(path, separator=separator), columns, names)
    notes: dict[str, None] = {}

    def read(_: Collection[str]) -> Iterator[Piece]:
        wanted = dict.fromkeys(part for text in (*layout.columns, *(layout.names or ())) for part in text.split("+"))
        lost = 0
        with progress_bar(f"reading {path.name} (rows)", None) as advance:
            for rows in read_pieces(path, dict.fromkeys(wanted, "text"), separator):
                facts = rows.select(
                    _padded(pl.concat_str(text.split("+"), separator=":"), layout).alias(name)
                    for name, text in zip(("head", "relation", "tail"), layout.columns, strict=True)
                )
                whole = facts.drop_nulls()
                lost += facts.height - whole.height
                advance(rows.height)
                yield Piece(whole, _names(rows, facts, layout))
        if lost:
            notes[f"{lost:,} rows left out: a head, relation or tail is empty"] = None

    return Ontology(
        path.name,
        layout.known_as or path.name,
        {"PrimeKG": "CC0 1.0, its sources' own terms hold", "Hetionet": "CC0 1.0, but for marked parts"}.get(
            layout.known_as, "as its publisher says"
        ),
        f"the nodes of its columns {layout.columns[0]} and {layout.columns[2]}",
        read,
        term_spellings,
        kinds=set(),  # no vocabulary: nothing is missed in it
        notes=notes,
    )


def _layout(path: Path, header: list[str], columns: Sequence[str] | None, names: Sequence[str] | None) -> Layout:
    if columns is not None:
        first, second, third = columns
        return Layout((first, second, third), (names[0], names[1]) if names else None)
    here = {name.lower() for name in header}
    for known in LAYOUTS:
        if here >= {part for text in known.columns for part in text.split("+")}:
            given = (names[0], names[1]) if names else known.names
            return known._replace(names=given if names or here >= set(known.names or ()) else None)
    raise UsageError(
        f"{path}: which columns are head, relation and tail? Say --columns HEAD,RELATION,TAIL; got {', '.join(header)}"
    )


def _padded(ids: pl.Expr, layout: Layout) -> pl.Expr:
    """Write numbers as the ontologies that PrimeKG took them from do: MONDO:5009 is MONDO:0005009, HPO's are HP."""
    if layout.known_as != "PrimeKG":
        return ids
    source, number = ids.str.extract(_NUMBERED, 1).replace("HPO", "HP"), ids.str.extract(_NUMBERED, 2)
    return pl.coalesce(pl.concat_str(source, number.str.zfill(7), separator=":"), ids)


def _names(rows: pl.DataFrame, facts: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    if layout.names is None:
        return pl.DataFrame(schema=NAMES)
    ends = [
        pl.DataFrame({"code": facts[end], "description": rows[name]})
        for end, name in zip(("head", "tail"), layout.names, strict=True)
    ]
    return pl.concat(ends).drop_nulls().unique("code", keep="first", maintain_order=True)

"""The knowledge graph of a data folder: read, extended by an ontology, and written back whole."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import polars as pl

from encoders.graph.ontology import climb, group, heights, without_circles
from encoders.records import Edge
from experiments.data.folder import Dataset
from experiments.ontologies.ontology import FACTS, IS_A, NAMES, Ontology
from experiments.sources.folder import write_table
from experiments.whole import whole_file

CODES, EDGES = "metadata/codes.parquet", "graph/edges.parquet"
_HELD_NAMES = 2_000_000
ACROSS = ("coded_as", "xref", "maps_to", "maps_to_approximately", "maps_to_in_part")  # from a code to what it means


@dataclass(frozen=True)
class Graph:
    """Rows of `metadata/codes.parquet` but for the parents, parents as `is_a` facts, and all other facts."""

    rows: pl.DataFrame
    parents: pl.DataFrame
    facts: pl.DataFrame

    @cached_property
    def nodes(self) -> set[str]:
        """The ends of all facts."""
        ends = [table[end] for table in (self.parents, self.facts) for end in ("head", "tail")]
        return set(pl.concat(ends).unique())

    @cached_property
    def relations(self) -> dict[str, int]:
        """How many facts there are of each relation, most first."""
        counts = (
            pl.concat([self.parents, self.facts])
            .group_by("relation")
            .len()
            .sort("len", "relation", descending=[True, False])
        )
        return dict(counts.iter_rows())

    def depth(self, codes: Set[str]) -> int:
        """Return the longest way up from any of some codes by `is_a`, in steps; circles are left out."""
        return max((self._height[code] for code in codes if code in self._height), default=0)

    @cached_property
    def _height(self) -> dict[str, int]:
        number = {name: i for i, name in enumerate(sorted(self.nodes))}
        pairs = without_circles((number[head], number[tail]) for head, _, tail in self.parents.iter_rows())
        return dict(zip(number, heights([(tail, head) for head, tail in pairs], len(number)), strict=True))

    def reach(self, codes: Set[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each code with itself and all that it leads to: up by `is_a`, or across, as by a crosswalk."""
        across = self.facts.filter(pl.col("relation").is_in(ACROSS))
        steps = group((head, tail) for head, _, tail in pl.concat([self.parents, across]).iter_rows())
        for code in codes:
            yield code, climb([code], steps)


class Match(NamedTuple):
    """Which node of an ontology each node of the folder is, of those that are one; and what each may be spelled as."""

    node: dict[str, str]
    spelled: dict[str, list[str]]


def read_graph(dataset: Dataset) -> Graph:
    """Read what a folder has.

    Raises:
        UsageError: a file is damaged, or a column of another type.
    """
    table = dataset.code_table.drop_nulls("code")
    edges = dataset.knowledge().edges
    parents = [edge for edge in edges if edge.relation == IS_A]
    others = [edge for edge in edges if edge.relation != IS_A]
    rows = table.drop("parent_codes", strict=False).unique("code", keep="first", maintain_order=True)
    if rows.schema.get("description", pl.Null) == pl.Null:
        rows = rows.with_columns(description=pl.lit(None, pl.String))
    return Graph(rows, _facts(parents), _facts(others))


def write_graph(folder: Path, graph: Graph) -> None:
    """Write codes with their parents, and all other facts; each file whole, and as readable as it was before."""
    listed = graph.parents.sort("tail").group_by("head").agg(parent_codes="tail")
    everything = pl.DataFrame({"code": sorted(graph.nodes | set(graph.rows["code"]))}, schema={"code": pl.String})
    table = everything.join(graph.rows, on="code", how="left").join(listed, left_on="code", right_on="head", how="left")
    table = table.with_columns(pl.col("parent_codes").fill_null([]))
    first = ["code", "description", "parent_codes"]
    with _as_readable(folder / CODES) as temporary:
        write_table(
            table.select(*first, *(name for name in table.columns if name not in first)).sort("code"), temporary
        )
    if graph.facts.height or (folder / EDGES).exists():
        with _as_readable(folder / EDGES) as temporary:
            write_table(graph.facts.unique().sort("head", "relation", "tail"), temporary)


def extend(graph: Graph, ontology: Ontology, codes: Set[str], *, whole: bool = False) -> tuple[Graph, Match]:
    """Add what an ontology says about a folder's codes: all above them, and the facts that any of these is in.

    Where a code is spelled otherwise than the ontology's node, it goes below that node. Parents that a code had in a
    vocabulary which the ontology owns give way to its own. Circles are cut, and noted.

    Args:
        codes: what events have; `graph` may know more.
        whole: add everything, also what no code of the folder leads to.
    """
    start = {each for _, reached in graph.reach(codes) for each in reached}
    spelled = {code: list(ontology.spellings(code)) for code in start}
    rows = [(code, text, rank) for code, texts in spelled.items() for rank, text in enumerate(texts)]
    spellings = pl.DataFrame(rows, schema={"code": pl.String, "spelling": pl.String, "rank": pl.Int64}, orient="row")
    wanted = set(spellings["spelling"])
    steps, names, met, others = _steps(ontology, wanted)
    found = spellings.filter(pl.col("spelling").is_in(met)).sort("rank").unique("code", keep="first")
    match = Match(dict(found.select("code", "spelling").iter_rows()), spelled)
    kept = None if whole else _beyond(found["spelling"], steps)
    facts = _others(ontology, wanted, kept) if others else pl.DataFrame(schema=FACTS)
    if kept is not None:
        kept = _beyond(pl.concat([kept, facts["head"], facts["tail"]]), steps.filter(pl.col("relation") == IS_A))
        steps = steps.filter(pl.col("head").is_in(kept.implode()))
    pairs = steps.filter(pl.col("relation") == IS_A)
    gone = _gone(graph, ontology, codes, match, names["code"])
    links = [Edge(code, IS_A, node) for code, node in match.node.items() if code != node and code not in gone]
    old = _given_way(graph.parents, ontology, match, gone)
    left = graph.rows.filter(~pl.col("code").is_in(list(gone)))
    parents = pl.concat([old, _acyclic(pairs, ontology), _facts(links)]).unique()
    across = steps.filter(pl.col("relation") != IS_A)
    after = Graph(left, parents, pl.concat([graph.facts, across, facts]).unique())
    return replace(after, rows=_named(left, names, after.nodes)), match


def _steps(ontology: Ontology, wanted: set[str]) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series, int]:
    """Read ways up and across, and names; tell which wanted spellings are nodes, and how many other facts there are."""
    spellings = pl.Series(sorted(wanted), dtype=pl.String)
    steps, names, others = [pl.DataFrame(schema=FACTS)], [pl.DataFrame(schema=NAMES)], 0
    met = [pl.Series(dtype=pl.String)]
    for facts, said in ontology.read(wanted):
        steps.append(facts.filter(_is_step()))
        others += facts.height - steps[-1].height
        names.append(said)
        if sum(each.height for each in names) > _HELD_NAMES:  # each row of a table of facts names its ends again
            names = [_once(names)]
        heads = [facts["head"], said["code"]]
        nodes = pl.concat(heads if ontology.one_way else [*heads, facts["tail"]])
        met.append(spellings.filter(spellings.is_in(nodes.implode())))
    return pl.concat(steps).unique(), _once(names), pl.concat(met).unique().implode(), others


def _once(names: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(names).unique("code", keep="first", maintain_order=True)


def _others(ontology: Ontology, wanted: set[str], kept: pl.Series | None) -> pl.DataFrame:
    """Read the other facts that a kept node is in, a second time: an ontology may be too large to be held."""
    found = [pl.DataFrame(schema=FACTS)]
    for facts, _ in ontology.read(wanted):
        other = facts.filter(~_is_step())
        if kept is not None:
            other = other.filter(pl.col("head").is_in(kept.implode()) | pl.col("tail").is_in(kept.implode()))
        found.append(other)
    return pl.concat(found).unique()


def _is_step() -> pl.Expr:
    return pl.col("relation").is_in([IS_A, *ACROSS])


def _beyond(start: pl.Series, steps: pl.DataFrame) -> pl.Series:
    """Return nodes and everything that steps lead to from them, one after the other."""
    found = front = start.unique()
    while front.len():
        front = steps.filter(pl.col("head").is_in(front.implode()))["tail"].unique()
        front = front.filter(~front.is_in(found.implode()))
        found = pl.concat([found, front])
    return found


def _acyclic(pairs: pl.DataFrame, ontology: Ontology) -> pl.DataFrame:
    """Leave out the parents that close a circle, and note them."""
    names = sorted(set(pairs["head"]) | set(pairs["tail"]))
    number = {name: i for i, name in enumerate(names)}
    given = {(number[head], number[tail]) for head, _, tail in pairs.iter_rows()}
    cut = given - set(without_circles(given))
    if not cut:
        return pairs
    shown = ", ".join(f"{names[head]} is_a {names[tail]}" for head, tail in sorted(cut)[:3])
    ontology.notes[f"{len(cut):,} is_a left out that close a circle: {shown}{', ...' if len(cut) > 3 else ''}"] = None
    return pairs.join(
        pl.DataFrame([(names[head], names[tail]) for head, tail in cut], schema=["head", "tail"], orient="row"),
        on=["head", "tail"],
        how="anti",
    )


def _gone(graph: Graph, ontology: Ontology, codes: Set[str], match: Match, names: pl.Series) -> set[str]:
    """Return rows that only a spelling made (`S01.01X`): in no event, without a name, in no release."""
    unnamed = graph.rows.filter(pl.col("description").is_null())["code"]
    mine = {code for code in unnamed if _vocabulary(code) in ontology.owns}
    return mine - codes - set(match.node.values()) - set(names) if mine else mine


def _given_way(parents: pl.DataFrame, ontology: Ontology, match: Match, gone: Set[str]) -> pl.DataFrame:
    """Leave out parents within a vocabulary that the ontology owns, of codes for which it has its own."""
    mine = [code for code in match.node if _vocabulary(code) in ontology.owns]
    same = pl.col("head").str.split("//").list.first() == pl.col("tail").str.split("//").list.first()
    lost = (pl.col("head").is_in(mine) & same) | pl.col("head").is_in(list(gone)) | pl.col("tail").is_in(list(gone))
    return parents.filter(~lost)


def _vocabulary(code: str) -> str:
    return code.partition("//")[0]


def _named(rows: pl.DataFrame, names: pl.DataFrame, nodes: set[str]) -> pl.DataFrame:
    """Give nodes names that have none; rows are added for those that get one."""
    known = names.filter(pl.col("code").is_in(list(nodes)))
    table = rows.join(known, on="code", how="full", coalesce=True, suffix="_given")
    return table.with_columns(description=pl.coalesce("description", "description_given")).drop("description_given")


def _facts(edges: list[Edge]) -> pl.DataFrame:
    return pl.DataFrame(edges, schema=FACTS, orient="row").unique()


@contextmanager
def _as_readable(path: Path) -> Iterator[Path]:
    """Yield a path to write to that takes a file's place, with the file's own rights; a new one is its owner's."""
    rights = path.stat().st_mode & 0o777 if path.exists() else None
    with whole_file(path, private=True) as temporary:
        yield temporary
        if rights is not None:
            temporary.chmod(rights)

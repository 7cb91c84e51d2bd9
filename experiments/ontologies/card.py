"""The graph card: what is in a folder's knowledge graph, and how much of its codes it covers."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import open_dataset
from experiments.ontologies import open_ontology
from experiments.ontologies.coverage import (
    FEW,
    FEWEST,
    Covered,
    count_codes,
    count_covered,
    covered_codes,
    uncovered,
    vocabulary_of,
)
from experiments.ontologies.graph import Graph, Match, extend, read_graph, write_graph
from experiments.ontologies.ontology import Ontology
from experiments.sources.folder import write_json
from experiments.whole import one_at_a_time, whole_file
from fusion.component import UsageError

CARD, UNCOVERED = "metadata/graph.json", "metadata/unmapped_codes.csv"
SHOWN = 20
DEFAULT_MAX_NODES = 20_000  # of `CodeGraph.fit`


@dataclass(frozen=True)
class Card:
    """A folder's graph after ontologies were added, and what they cover by ontology and vocabulary."""

    folder: Path
    graph: Graph
    ontologies: list[Ontology]
    coverage: dict[str, list[Covered]]
    depth: dict[str, int]
    unmapped: pl.DataFrame


def add_ontologies(
    folder: Path,
    names: Sequence[str],
    *,
    columns: Sequence[str] | None = None,
    described: Sequence[str] | None = None,
    whole: bool = False,
) -> Card:
    """Give a data folder its knowledge graph from ontologies by name or file, one after the other, crosswalks first.

    Raises:
        UsageError: an ontology is unknown, damaged or covers no code of the folder; nothing was written then.
    """
    dataset = open_dataset(folder)
    ontologies = [open_ontology(name, columns, described) for name in dict.fromkeys(names)]
    ontologies.sort(key=lambda each: not each.one_way)  # what they lead to is what the others hang up
    with one_at_a_time(dataset.folder / CARD):
        counts = count_codes(dataset)
        codes = set(counts["code"])
        graph, matches = read_graph(dataset), dict[str, Match]()
        for each in ontologies:
            graph, matches[each.name] = extend(graph, each, codes, whole=whole)
            _note_roughly(each, matches[each.name], codes)
        covered = covered_codes(graph, codes, matches)
        for each in ontologies:
            if not covered[each.name]:
                raise _nothing(dataset.folder, each, counts)
        coverage = {name: count_covered(dataset, counts, found) for name, found in covered.items()}
        depth = {name: graph.depth(found) for name, found in covered.items()}
        missed = uncovered(counts, ontologies, matches, covered)
        card = Card(dataset.folder, graph, ontologies, coverage, depth, missed)
        _write(card)
    return card


def _note_roughly(ontology: Ontology, match: Match, codes: Set[str]) -> None:
    """Note the codes that are there only as the nearest shorter one, as of another year's release."""
    rough = sorted(code for code in codes & match.node.keys() if match.node[code] != match.spelled[code][0])
    if rough and ontology.kinds is None:
        shown = ", ".join(f"{code} as {match.node[code]}" for code in rough[:3])
        ontology.notes[f"{len(rough):,} codes are not in this release, but shorter ones are: {shown}"] = None


def _write(card: Card) -> None:
    write_graph(card.folder, card.graph)
    with whole_file(card.folder / UNCOVERED, private=True) as temporary:
        card.unmapped.write_csv(temporary)
    with whole_file(card.folder / CARD, private=True) as temporary:
        write_json(temporary, as_json(card))


def _nothing(folder: Path, ontology: Ontology, counts: pl.DataFrame) -> UsageError:
    """Make the error for codes of other vocabularies; those of a few patients are not quoted."""
    often = counts.filter(pl.col("patients") >= FEWEST).sort("events", "code", descending=[True, False])["code"]
    looks = {vocabulary_of(code): code for code in reversed(often.to_list())}
    shown = ", ".join(list(reversed(looks.values()))[:4]) or f"codes of {FEW} patients each"
    return UsageError(
        f"{folder}: none of its {counts.height:,} codes is in {ontology.name}; wanted codes like {ontology.example}, "
        f"got codes like {shown}"
    )


def as_json(card: Card) -> dict[str, Any]:
    """Return the card as plain data; numbers of a few patients are words."""
    return {
        "ontologies": [
            {
                "name": each.name,
                "source": each.source,
                "licence": each.licence,
                "notes": list(each.notes),
                "longest_way_up": card.depth[each.name],
                "coverage": [_plain(row) for row in card.coverage[each.name]],
            }
            for each in card.ontologies
        ],
        "nodes": len(card.graph.nodes),
        "facts_by_relation": card.graph.relations,
        "unmapped_codes": {"file": UNCOVERED, "codes": card.unmapped["code"].n_unique()},
    }


def _plain(row: Covered) -> dict[str, Any]:
    return {
        "vocabulary": row.vocabulary or "all codes",
        "codes": row.codes,
        "covered_codes": row.covered,
        "share_of_codes": round(row.covered / row.codes, 4),
        "share_of_events": row.share_of_events,
    }


def render(card: Card) -> Any:
    """Return the card as rich tables."""
    from rich.console import Group
    from rich.table import Table

    graph = card.graph
    parts: list[Any] = [f"{card.folder}: {len(graph.nodes):,} nodes"]
    kinds = Table("relation", "facts", title="graph")
    for name, count in graph.relations.items():
        kinds.add_row(name, f"{count:,}")
    parts.append(kinds)
    table = Table(
        "ontology", "codes of", "codes", "covered", "share of codes", "share of events", "steps up", title="coverage"
    )
    for each in card.ontologies:
        steps = str(card.depth[each.name])
        for row in card.coverage[each.name]:
            name = row.vocabulary or "all codes"
            share = f"{row.covered / row.codes:.1%}"
            table.add_row(each.name, name, f"{row.codes:,}", f"{row.covered:,}", share, row.share_of_events, steps)
    parts.append(table)
    sources = Table("ontology", "source", "licence", title="sources")
    for each in card.ontologies:
        sources.add_row(each.name, each.source, each.licence)
    parts.append(sources)
    parts += [f"{each.name}: {note}" for each in card.ontologies for note in each.notes]
    if len(graph.nodes) > DEFAULT_MAX_NODES:
        parts.append(
            f"more than {DEFAULT_MAX_NODES:,} nodes: encoders keep those near training codes (graph.max_nodes)"
        )
    return Group(*parts, *_unmapped(card))


def _unmapped(card: Card) -> list[Any]:
    """Show codes that an ontology should have, or that many patients have: rare free text stays in the file."""
    from rich.table import Table

    total = card.unmapped["code"].n_unique()
    if not total:
        return ["every code is covered"]
    fit = card.unmapped.filter((pl.col("ontology") != "") | (pl.col("patients") != FEW)).head(SHOWN)
    table = Table(
        "code", "patients", "events", "ontology", "why", title=f"not covered: {fit.height} of {total:,} codes"
    )
    for row in fit.iter_rows():
        table.add_row(*row)
    return [table, f"all of them: {card.folder / UNCOVERED}"]

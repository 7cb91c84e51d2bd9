"""How much of a folder's codes an ontology covers: counts over shards, and none that could tell of a few patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

import polars as pl

from experiments.data.folder import Dataset
from experiments.data.tables import INTEGER, TEXT, check_filled, read_table
from experiments.ontologies.graph import Graph, Match
from experiments.ontologies.ontology import Ontology
from experiments.progress import progress_bar
from experiments.sources.icd import icd_recognised

FEWEST = 10  # patients; a smaller number is not shown
FEW = f"under {FEWEST}"
_OTHER = "of none of their vocabularies"
_ABSENT = "spelled as a code of it, but not in this release"
_ALL = pl.lit("")


@dataclass(frozen=True)
class Covered:
    """What of one vocabulary of the folder an ontology covers; of all of them where it is empty.

    Args:
        patients: who have an event of it, one that is covered, and one that is not; only whether they are few is shown.
    """

    vocabulary: str
    codes: int
    covered: int
    events: int
    covered_events: int
    patients: tuple[int, int, int]

    @property
    def share_of_events(self) -> str:
        """The covered share of events, in words where it would tell of a few patients."""
        everybody, covered, rest = self.patients
        if everybody < FEWEST:
            return f"{FEW} patients"
        if 0 < rest < FEWEST:
            return f"all but {FEW} patients'"
        return f"{FEW} patients'" if 0 < covered < FEWEST else f"{self.covered_events / self.events:.1%}"


def count_codes(dataset: Dataset) -> pl.DataFrame:
    """Count the events and patients of each code, shard by shard: columns code, events, patients.

    Raises:
        UsageError: a shard is damaged or has a null where none may be.
    """
    return _count(dataset, lambda events: events.group_by("code").agg(*_COUNTS), ["code"])


def count_covered(dataset: Dataset, counts: pl.DataFrame, covered: Set[str]) -> list[Covered]:
    """Count what is covered of each vocabulary that has a covered code, and of all codes together, which comes last."""
    codes = counts.select("code", covered=pl.col("code").is_in(list(covered)))
    codes = codes.with_columns(vocabulary=pl.col("code").map_elements(vocabulary_of, pl.String))
    codes = pl.concat([codes.filter(pl.col("covered").any().over("vocabulary")), codes.with_columns(vocabulary=_ALL)])
    keys = ["vocabulary", "covered"]

    def grouped(events: pl.DataFrame) -> pl.DataFrame:
        split = events.join(codes, on="code")
        whole = split.with_columns(covered=pl.lit(None, pl.Boolean))  # a patient may be on both sides
        return pl.concat([split, whole]).group_by(keys).agg(*_COUNTS)

    found = {(name, part): numbers for name, part, *numbers in _count(dataset, grouped, keys).iter_rows()}
    sizes = codes.group_by("vocabulary").agg(pl.len(), pl.col("covered").sum()).sort("vocabulary", descending=True)
    rows = []
    for name, size, number in sizes.iter_rows():
        (events, everybody), (part, some), (_, rest) = (found.get((name, key), (0, 0)) for key in (None, True, False))
        rows.append(Covered(name, size, number, events, part, (everybody, some, rest)))
    return sorted(rows, key=lambda row: (not row.vocabulary, row.vocabulary))


def covered_codes(graph: Graph, codes: Set[str], matches: Mapping[str, Match]) -> dict[str, set[str]]:
    """Return, for each ontology, the codes of events that are one of its nodes, or lead up or across to one."""
    found: dict[str, set[str]] = {name: set() for name in matches}
    for code, reached in graph.reach(codes):
        for name, match in matches.items():
            if any(each in match.node for each in reached):
                found[name].add(code)
    return found


def uncovered(
    counts: pl.DataFrame, ontologies: list[Ontology], matches: Mapping[str, Match], covered: Mapping[str, set[str]]
) -> pl.DataFrame:
    """List the codes that an ontology should have and has not, and those that none has: most patients first.

    Shape:
        columns code, patients, events (text; words where they are few), ontology (empty: none), why.
    """
    rows = []
    for code, events, patients in counts.iter_rows():
        few = patients < FEWEST
        shown = (code, FEW if few else str(patients), f"of {FEW} patients" if few else str(events), patients)
        why = {}
        for each in ontologies:
            spelled = matches[each.name].spelled.get(code, [])
            if code not in covered[each.name] and each.misses(spelled):
                why[each.name] = next((each.why[text] for text in spelled if text in each.why), _ABSENT)
        if not why and not any(code in found for found in covered.values()):
            why[""] = _OTHER
        rows += [(*shown, name, text) for name, text in why.items()]
    names = ["code", "patients", "events", "number", "ontology", "why"]
    table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String) | {"number": pl.Int64}, orient="row")
    order = table.with_columns(last=pl.col("ontology") == "", few=pl.col("number") < FEWEST)
    # among the rare ones the order would tell who is rarer
    rank = pl.when(pl.col("few")).then(0).otherwise(-pl.col("number"))
    return order.sort("last", "few", rank, "code").drop("number", "last", "few")


def vocabulary_of(code: str) -> str:
    """Return what a code begins with: its vocabulary.

    Examples:
        >>> vocabulary_of("LAB//sodium"), vocabulary_of("HP:0001250"), vocabulary_of("DIAGNOSIS//ICD//10//I5023")
        ('LAB', 'HP', 'DIAGNOSIS//ICD//10')
    """
    if icd_recognised(code) is not None:
        return code[: max(code.rfind(mark) for mark in "/:|")].rstrip("/")
    for mark in ("//", "/", ":"):
        if mark in code:
            return code.partition(mark)[0]
    return code


_COUNTS = (pl.len().cast(pl.Int64).alias("events"), pl.col("subject_id").n_unique().cast(pl.Int64).alias("patients"))


def _count(dataset: Dataset, grouped: Callable[[pl.DataFrame], pl.DataFrame], keys: list[str]) -> pl.DataFrame:
    """Add up counts of shards; a patient is in one shard only."""
    return pl.concat(map(grouped, _shards(dataset))).group_by(keys).agg(pl.col("events", "patients").sum()).sort(keys)


def _shards(dataset: Dataset) -> Iterator[pl.DataFrame]:
    with progress_bar("counting codes", len(dataset.shards)) as advance:
        for shard in dataset.shards:
            events = read_table(shard, {"subject_id": INTEGER, "code": TEXT}, only=True)
            check_filled(shard, events, ["subject_id", "code"])
            yield events
            advance()

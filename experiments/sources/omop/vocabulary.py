"""What OMOP's concepts are called and what stands above them, of those that are used only."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from experiments.sources.icd import icd_parent
from experiments.sources.pieces import Origin, header_of
from experiments.sources.spelling import respelled
from experiments.sources.typed import Column, Typed

_PAIR = {"child": pl.Int64, "parent": pl.Int64}
_CONCEPT = {"concept": pl.Int64, "code": pl.String, "short": pl.String, "name": pl.String}


def origin(path: Path) -> Origin:
    """Return a table of a vocabulary; Athena's files are parted by tabs though they are called CSV."""
    text = path.suffix.lower() != ".parquet"
    tabbed = text and "\t" in _first_line(path)
    return Origin(str(path), path, separator="\t" if tabbed else ",", quoted=not tabbed)


def pairs_above(found: Mapping[str, Path]) -> pl.DataFrame:
    """Return concepts and those directly above them: of `concept_ancestor`, else the relation "Is a"."""
    if "concept_ancestor" in found:
        names = ("descendant_concept_id", "ancestor_concept_id", "min_levels_of_separation")
        table = Typed(origin(found["concept_ancestor"]), {name: Column("id", name) for name in names})
        direct = [piece.filter(pl.col(names[2]) == 1) for piece in table.pieces()]
        return _pairs(piece.select(child=names[0], parent=names[1]) for piece in direct)
    return related(found, "Is a")


def related(found: Mapping[str, Path], relation: str) -> pl.DataFrame:
    """Return the pairs of a relation that is still valid, but for concepts related to themselves."""
    if "concept_relationship" not in found:
        return pl.DataFrame(schema=_PAIR)
    source, text = origin(found["concept_relationship"]), ["relationship_id"]
    text += [name for name in header_of(source) if name.lower() == "invalid_reason"]
    columns = {name: Column("id", name) for name in ("concept_id_1", "concept_id_2")}
    table = Typed(source, columns | {name.lower(): Column("text", name) for name in text})
    valid = pl.col("relationship_id") == relation
    if len(text) > 1:
        valid &= pl.col("invalid_reason").is_null()
    kept = valid & (pl.col("concept_id_1") != pl.col("concept_id_2"))
    return _pairs(piece.filter(kept).select(child="concept_id_1", parent="concept_id_2") for piece in table.pieces())


def climb(used: Iterable[int], pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs at and above the concepts that are used."""
    known, found = pl.DataFrame({"child": sorted(used)}, schema={"child": pl.Int64}), []
    fresh = known
    while fresh.height:
        above = pairs.join(fresh, on="child", how="semi")
        found.append(above)
        fresh = above.select(child="parent").unique().join(known, on="child", how="anti")
        known = pl.concat([known, fresh])
    return pl.concat([pl.DataFrame(schema=_PAIR), *found]).unique().sort("child", "parent")


def read_concepts(path: Path | None, wanted: Iterable[int]) -> pl.DataFrame:
    """Return the code, its part without the vocabulary, and the name of the concepts that are wanted.

    Without a table of concepts the code is `OMOP//` and the number.

    Shape:
        columns concept, code, short, name.
    """
    numbers = pl.DataFrame({"concept": sorted(wanted)}, schema={"concept": pl.Int64})
    if path is None:
        text = pl.col("concept").cast(pl.String)
        return numbers.select("concept", code=pl.lit("OMOP//") + text, short=text, name=text)
    columns = {
        "concept": Column("id", "concept_id"),
        "short": Column("text", "concept_code"),
        "name": Column("text", "concept_name"),
        "vocabulary": Column("text", "vocabulary_id"),
    }
    kept = [piece.join(numbers, on="concept", how="semi") for piece in Typed(origin(path), columns).pieces()]
    found = [
        piece.with_columns(code=pl.concat_str("vocabulary", "short", separator="//")).select(*_CONCEPT)
        for piece in kept
    ]
    table = pl.concat([pl.DataFrame(schema=_CONCEPT), *found]).unique("concept", keep="first", maintain_order=True)
    changed = {code: respelled(code) for code in table["code"].drop_nulls()}
    return table.with_columns(pl.col("code").replace(changed))


def parents_of(codes: Iterable[str], concepts: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, list[str]]:
    """Return what stands above each code: by OMOP, for ICD codes by the ICD too, and a finding's question.

    The code of a finding is that of its question and that of its answer with a bar between; above a cause of death
    stands the disease.
    """
    code = concepts.select("concept", "code")
    named = pairs.join(code.rename({"concept": "child", "code": "head"}), on="child")
    named = named.join(code.rename({"concept": "parent", "code": "tail"}), on="parent").drop_nulls()
    found: dict[str, set[str]] = {}
    for head, tail in named.select("head", "tail").iter_rows():
        if head != tail:
            found.setdefault(head, set()).add(tail)
    waiting, known = [*codes], set[str]()
    while waiting:
        each = waiting.pop()
        if each in known:
            continue
        known.add(each)
        bare = each.removeprefix("CAUSE_OF_DEATH//").split("|")[0]
        above = bare if bare != each else icd_parent(each)
        if above is not None:
            found.setdefault(each, set()).add(above)
        waiting += found.get(each, ())
    return {each: sorted(found.get(each, ())) for each in sorted(known)}


def _pairs(pieces: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=_PAIR), *pieces])


def _first_line(path: Path) -> str:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            return file.readline().decode("utf-8", errors="replace")
    except (OSError, EOFError):
        return ""  # what is wrong is said when it is read

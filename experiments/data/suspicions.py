"""What is allowed in a folder but worth a look: late events, loose graphs, features that know the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from encoders.records import CodeEvents, Knowledge
from experiments.data.folder import Dataset
from experiments.data.tables import INTEGER, TEXT, TIME, read_table

SUSPICIOUS = 0.95  # AUROC of a single feature that no honest one reaches
_LEAST = 20  # patients who must have a value before its AUROC says anything
_CHANCE = 1e-3  # that all patients with some code are positive by luck


class Telling(NamedTuple):
    """A single feature that tells the label too well, and why one thinks so.

    `exact` where it separates the classes nearly without error; `share` of the positives have it.
    """

    code: str
    why: str
    exact: bool
    share: float


def late_events(dataset: Dataset, labels: pl.DataFrame) -> tuple[int, int]:
    """Count the events and the notes that come after the last prediction time of their subject."""
    last = labels.group_by("subject_id").agg(pl.col("prediction_time").max())
    events = notes = 0
    for shard in dataset.shards:
        events_of = read_table(shard, {"subject_id": INTEGER, "time": TIME}, {"text_value": TEXT}, only=True)
        frame = events_of.join(last, on="subject_id")
        text = pl.col("text_value").is_not_null() if "text_value" in frame.columns else pl.lit(False)
        late = frame.filter(pl.col("time") > pl.col("prediction_time"))
        counted = late.select(pl.len().alias("n"), text.sum().alias("notes"))
        events, notes = events + int(counted["n"][0]), notes + int(counted["notes"][0] or 0)
    return events, notes


def loose_graph(knowledge: Knowledge, known: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (file, what) for ends of edges that are no codes and for circles among parents."""
    nodes = known | {edge.head for edge in knowledge.edges if edge.relation == "is_a"}
    nodes |= {edge.tail for edge in knowledge.edges if edge.relation == "is_a"}
    loose = [edge for edge in knowledge.edges if not {edge.head, edge.tail} <= nodes]
    if loose:
        end = next(each for each in (loose[0].head, loose[0].tail) if each not in nodes)
        yield "graph/edges.parquet", f"{len(loose)} edges lead to codes that are described nowhere, e.g. {end}"
    circle = parent_circle(knowledge)
    if circle:
        yield "metadata/codes.parquet", f"codes are their own ancestors: {' -> '.join(circle)}"


def parent_circle(knowledge: Knowledge) -> list[str]:
    """Return a circle among `is_a` edges, its first code repeated at the end; empty where there is none."""
    up: dict[str, list[str]] = {}
    for edge in knowledge.edges:
        if edge.relation == "is_a":
            up.setdefault(edge.head, []).append(edge.tail)
    done: set[str] = set()
    for start in up:
        path, stack = [], [(start, iter(up[start]))] if start not in done else []
        path = [start] if stack else []
        while stack:
            parent = next(stack[-1][1], None)
            if parent is None:
                done.add(stack.pop()[0])
                path.pop()
            elif parent in path:
                return [*path[path.index(parent) :], parent]
            elif parent not in done and parent in up:
                path.append(parent)
                stack.append((parent, iter(up[parent])))
    return []


def telling_features(records: Sequence[CodeEvents], positive: NDArray[np.bool_]) -> list[Telling]:
    """Return the single features that separate the classes better than an honest one could.

    Presence of a code and its last value before the prediction are looked at, each alone.
    """
    count, hits = len(positive), int(positive.sum())
    if min(hits, count - hits) < _LEAST // 2:
        return []
    have: dict[str, Counter[bool]] = {}
    values: dict[str, tuple[list[float], list[float]]] = {}
    for events, label in zip(records, positive.tolist(), strict=True):
        last = dict(zip(events.codes, events.values.tolist(), strict=True))
        for code, value in last.items():
            have.setdefault(code, Counter())[label] += 1
            if np.isfinite(value):
                values.setdefault(code, ([], []))[label].append(value)
    found = []
    for code, seen in sorted(have.items()):
        share = abs(seen[True] / hits - seen[False] / (count - hits))
        only = seen[False] == 0 and (hits / count) ** seen[True] * len(have) < _CHANCE
        negative, with_it = values.get(code, ([], []))
        if 0.5 + share / 2 > SUSPICIOUS:
            why = f"having it or not tells the label with an AUROC of {0.5 + share / 2:.3f}"
            found.append(Telling(code, why, True, seen[True] / hits))
        elif only:
            why = f"all {seen[True]} training patients who have it are positive"
            found.append(Telling(code, why, False, seen[True] / hits))
        elif min(len(negative), len(with_it)) >= _LEAST // 2:
            area = float(mannwhitneyu(with_it, negative).statistic) / (len(with_it) * len(negative))
            if max(area, 1 - area) > SUSPICIOUS:
                why = f"its last value tells the label with an AUROC of {max(area, 1 - area):.3f}"
                found.append(Telling(code, why, True, seen[True] / hits))
    return found

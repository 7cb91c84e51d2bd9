"""Whether explanations find planted causes: python benchmarks/explanations.py -o FILE.md.

Of each recipe one early fusion is trained and explained on held-out patients. Where each modality carries a part of
its own (unique), planted leaves of codes, decisive words of notes and the bright patch of images must come first; where
the label is code XOR note (synergy), the value must lie in the interaction of the two and hardly in either alone; where
every modality shows the same (redundant), their interaction must be negative; where there is nothing (noise), nothing
may be found; and where the label hangs on a parent code (ancestor), the graph's edges to it must come first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from encoders.graph import CodeGraph
from experiments.benchmark import recipe_config
from experiments.coalitions import coalition_predictions, who_has
from experiments.config import ExperimentConfig, parse_config
from experiments.data.store import Store
from experiments.explaining.attribution import attribute
from experiments.explaining.contributions import contributions, in_words, interactions_of
from experiments.explaining.explained import Explained
from experiments.explaining.gates import items_of
from experiments.explaining.links import attribute_links, explained_by, link_names, reached
from experiments.explaining.sets import Sets
from experiments.explaining.tally import Attributed, names_of
from experiments.metrics import METRICS
from experiments.scoring import Score, Tested
from experiments.sources.synthetic import vocabulary
from experiments.sources.synthetic.notes import telling_words
from experiments.statistics.intervals import Interval
from experiments.statistics.means import Quantities, ratio
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture
from fusion.model import present_rows

_BATCH = 64


@dataclass(frozen=True)
class Case:
    """What is trained on a recipe: encoders, patients, and training settings that differ from the benchmark's."""

    recipe: str
    encoders: Mapping[str, Any]
    patients: int = 3000
    training: Mapping[str, Any] = field(default_factory=dict)


THREE: Mapping[str, Any] = {"codes": "bag", "notes": "bag", "images": {"name": "conv", "width": 8, "grid": 2}}
CASES = {
    "unique": Case("unique", THREE),
    "synergy": Case("synergy", {"graph": "ancestors", "notes": "bag"}, 4000),
    "redundant": Case("redundant", THREE),
    "noise": Case("noise", THREE),
    "ancestor": Case("ancestor", {"codes": "bag", "graph": "ancestors"}),
    "ancestor-gcn": Case("ancestor", {"graph": {"name": "gcn", "layers": 1}}),
}
LINKED = {"ancestors": 200, "edges": 100}
"""Held-out patients whose ancestors or edges are attributed; a whole graph is passed through for each and step."""


class Line(NamedTuple):
    """One thing that was looked at, what must be found, what was, and whether it is that; None where nothing must."""

    what: str
    wanted: str
    found: str
    right: bool | None = None


def main() -> None:
    """Print what explanations say of each case, and write it as Markdown where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("-o", "--out", type=Path, default=None, help="Markdown file for the table")
    arguments = parser.parse_args()
    rows: list[str] = []
    start = time.process_time()
    for name in arguments.cases:
        with TemporaryDirectory() as folder:
            for line in explain(CASES[name], Path(folder)):
                verdict = "" if line.right is None else "yes" if line.right else "**no**"
                rows.append(f"| {name} | {line.what} | {line.wanted} | {line.found} | {verdict} |")
                print(f"{name}: {line.what}: {line.found} (wanted: {line.wanted}) {verdict}", flush=True)
        if arguments.out is not None:
            arguments.out.write_text(_markdown(rows, time.process_time() - start), encoding="utf-8")


def _markdown(rows: Sequence[str], seconds: float) -> str:
    head = f"# Explanations on planted cohorts, {date.today().isoformat()}, 2 CPU cores\n\n"
    head += (
        f"`python benchmarks/explanations.py`, {seconds:.0f} s of CPU; one cohort and one seed each, all figures of\n"
    )
    head += "held-out patients, 95% intervals over patients.\n\n| recipe | what | wanted | found | as wanted |\n"
    return "\n".join([f"{head}|---|---|---|---|---|", *rows]) + "\n"


class Trained(NamedTuple):
    """A model of a case, and what it predicts of held-out patients from every set of modalities."""

    fit: Fit
    store: Store
    rows: Any
    sets: Sets
    tested: Tested


def explain(case: Case, folder: Path) -> Iterator[Line]:
    """Train on one recipe and say what its explanations find."""
    fit, store, rows, sets, tested = trained(case, folder)
    yield from valued(case.recipe, sets, tested, store)
    for modality in fit.preparations:
        yield from within(case.recipe, fit, store, modality, rows, tested)


def trained(case: Case, folder: Path, seed: int = 0) -> Trained:
    """Write a cohort, train on it, and predict who is held out."""
    settings = recipe_config(case.recipe, folder, patients=50).model_dump(mode="json")
    settings["data"] |= {"folder": str(folder / "data")}
    settings["data"]["synthetic"] |= {"patients": case.patients, "seed": seed}
    settings["data"]["preprocess"] = {name: settings["data"]["preprocess"].get(name, {}) for name in case.encoders}
    settings["model"] |= {"encoders": dict(case.encoders)}
    settings["training"] |= dict(case.training)
    config = parse_config(settings)
    assert isinstance(config, ExperimentConfig)
    store, architecture = open_store(config), Architecture.from_dict(config.model.model_dump())
    fit = train(architecture, store, config.training, seed, preprocess=config.data.preprocess)
    rows = store.cohort.rows("held_out")
    predicted = coalition_predictions(fit.model, fit.preparations, store, rows)[..., 0]
    sets = Sets("early", tuple(fit.preparations), (predicted,), who_has(fit.preparations, store, rows))
    return Trained(fit, store, rows, sets, Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows]))


def valued(recipe: str, sets: Sets, tested: Tested, store: Store) -> Iterator[Line]:
    """Say what modalities are worth, alone, in the mean over sets, and together."""
    metric = METRICS["auroc"]
    scores = sets.combined(tested, metric, np.eye(2 ** len(sets.modalities)))
    told = {"unique": True, "redundant": True, "noise": False}.get(recipe)
    hoped = {"synergy": "near .89", "noise": "near .5"}.get(recipe, "")
    yield Line("AUROC with everything", hoped, f"{scores[-1].value:.3f} of {len(tested.target):,} patients")
    for each in contributions(sets, tested, metric, store.task):
        shown = f"{in_words(each.value)}; {each.share.value:.0%} of predictions, size {each.size:.2f}"
        if told is None:
            yield Line(f"Shapley value of {each.modality}", "", shown)
        else:
            right = each.value.low > 0 if told else covers_nothing(each.value)
            yield Line(f"Shapley value of {each.modality}", "above 0" if told else "interval covers 0", shown, right)
    if recipe == "synergy":
        for place, name in enumerate(sets.modalities):
            alone: Score = scores[2**place].minus(scores[0])
            small = abs(alone.value) < 0.06
            yield Line(f"{name} alone", "near 0 (within 0.06)", in_words(alone.interval), small)
    for pair in interactions_of(sets, tested, metric):
        wanted, as_wanted = _together(recipe, pair.together)
        yield Line(f"interaction of {pair.first} and {pair.second}", wanted, in_words(pair.together), as_wanted)


def _together(recipe: str, span: Interval) -> tuple[str, bool | None]:
    if recipe == "synergy":
        return "large, interval above 0", span.low > 0.2
    if recipe == "redundant":
        return "interval below 0", span.high < 0
    if recipe == "noise":
        return "interval covers 0", covers_nothing(span)
    return "", None


def covers_nothing(span: Interval) -> bool:
    """Tell whether an interval covers 0."""
    return span.low <= 0 <= span.high


def within(recipe: str, fit: Fit, store: Store, modality: str, rows: Any, tested: Tested) -> Iterator[Line]:
    """Say what is found within a modality, and whether it points the right way."""
    explained, said, places = attributed(fit, store, modality, rows)
    apart = pointing(said, places, tested)
    right = covers_nothing(apart) if recipe == "noise" else None
    what = f"{modality}: attributions of patients with the outcome minus those without"
    yield Line(what, "interval covers 0" if recipe == "noise" else "", in_words(apart), right)
    sums = explained.sums().removeprefix("Attributions miss what they should add up to by ")
    if modality == "images":
        yield from _regions(recipe, explained)
    elif recipe not in ("noise", "ancestor"):  # leaves of the family are too rare to be told of
        yield from _first(f"{modality}", explained.found[0], planted_items(recipe, modality))
    yield Line(f"{modality}: parts miss the whole by", "", sums)
    if modality == "graph":
        links = linked(fit, store, rows)
        if recipe == "ancestor":
            yield from _first(f"graph {links.links}", links.found[0], planted_links)
            yield Line(f"graph {links.links}: parts miss the whole by", "", links.sums().split("by ", 1)[-1])


def _first(what: str, found: Sequence[Attributed], is_planted: Any) -> Iterator[Line]:
    """Say which places planted items have, and which share of what is told of is theirs."""
    places = [place for place, each in enumerate(found, 1) if is_planted(each.name)]
    if not places:
        yield Line(f"{what}: planted among {len(found)}", "first", "none of them has ten patients", False)
        return
    share = sum(each.share for each in found if is_planted(each.name)) / sum(each.share for each in found)
    top = sum(place <= len(places) for place in places)
    names = ", ".join(" ".join(each.name) if isinstance(each.name, tuple) else each.name for each in found[:3])
    text = f"{share:.0%} of what is told; places {places[0]} to {places[-1]}, {top} of the first {len(places)}"
    yield Line(
        f"{what}: {len(places)} planted among {len(found)}", "first", f"{text}; first are {names}", places[0] == 1
    )


def planted_items(recipe: str, modality: str) -> Any:
    """Return what tells planted codes, nodes or words from others."""
    if modality == "notes":
        return telling_words().__contains__
    categories = {"ancestor": vocabulary.FAMILIES, "synergy": (vocabulary.DISEASE, vocabulary.DECOY)}
    chosen = categories.get(recipe, (vocabulary.DISEASE, vocabulary.DECOY, *vocabulary.FAMILIES))
    laboratory = ("LAB//creatinine",) if recipe == "redundant" else ()  # says nothing where it has no weight
    return lambda name: name.startswith((*laboratory, *(f"{vocabulary.ICD}{each}" for each in chosen)))


def planted_links(name: tuple[str, ...]) -> bool:
    """Tell whether an edge leads to, or an ancestor is, a planted family, a branch of it, or the block of it alone."""
    blocks = ("S50-S59", "S80-S89", *vocabulary.FAMILIES)
    return name[2].startswith(tuple(f"{vocabulary.ICD}{each}" for each in blocks))


def _regions(recipe: str, explained: Explained) -> Iterator[Line]:
    """Say how much of the attributions lies where patches are planted."""
    regions = explained.regions.mean()
    if recipe == "noise" or regions is None:
        return
    y, x = np.mgrid[0 : regions.shape[0], 0 : regions.shape[1]]
    patch = np.minimum(np.hypot(x - 9.5, y - 19), np.hypot(x - 22.5, y - 19)) <= 5  # centres of patches lie near these
    share, area = regions[patch].sum() / regions.sum(), patch.mean()
    inside = bool(patch.ravel()[regions.argmax()])
    text = f"{share:.0%} of attributions on {area:.0%} of the image ({share / area:.1f} times its part)"
    text += f"; the strongest pixel lies {'inside' if inside else 'outside'}"
    yield Line("images: planted patches", "strongest pixel inside, twice its part", text, inside and share > 2 * area)


def pointing(said: Any, places: Any, tested: Tested) -> Interval:
    """Return by how much all of a modality raises patients with the outcome more than those without."""

    def columns(target: Any, values: Any) -> Any:
        yes = target.astype(float)
        return np.stack([yes * values, yes, (1 - yes) * values, 1 - yes], axis=1)

    def apart(means: Any) -> Any:
        return (ratio(means[..., 0], means[..., 1]) - ratio(means[..., 2], means[..., 3]))[..., None]

    return tested.among(places).quantities(Quantities(("apart",), columns, apart), said)["apart"].interval


def attributed(fit: Fit, store: Store, modality: str, rows: Any) -> tuple[Explained, Any, Any]:
    """Attribute a modality; return also what all of it says of each patient, and which of the rows these are."""
    found = Explained(modality, "", names_of(store.preprocessor(fit.preparations[modality])))
    said, places, model = [], [], fit.model.cpu().eval()
    for start, mine, some in _batches(fit, store, modality, rows):
        parts = attribute(model, mine, modality, 0)
        items = items_of(mine[modality])
        numbers, real = (None, mine[modality].mask) if items is None else (items[0].numpy(), items[1])
        found.count(parts, real.numpy(), rows[start + some].tolist(), numbers)
        said.append(parts.said.numpy())
        places.append(start + some)
    return found, np.concatenate(said).astype(float), np.concatenate(places)


def linked(fit: Fit, store: Store, rows: Any) -> Explained:
    """Attribute the graph's edges or ancestors."""
    graph, kind = store.preprocessor(fit.preparations["graph"]), explained_by(fit.model.encoders["graph"])
    assert isinstance(graph, CodeGraph)
    found = Explained("graph", "", link_names(graph, kind), links=kind)
    for start, mine, some in _batches(fit, store, "graph", rows[: LINKED[kind]]):
        real = reached(graph, kind, mine["graph"].nodes, mine["graph"].mask)
        numbers = np.broadcast_to(np.arange(real.shape[1]), real.shape)
        found.count(attribute_links(fit.model, mine, graph, 0), real, rows[start + some].tolist(), numbers)
    return found


def _batches(fit: Fit, store: Store, modality: str, rows: Any) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Yield where a batch starts, the inputs of those of it who have a modality, and their places in it."""
    for start in range(0, len(rows), _BATCH):
        here = torch.from_numpy(rows[start : start + _BATCH])
        inputs = {name: store.source(plan).collate(here) for name, plan in fit.preparations.items()}
        some, _ = present_rows(inputs[modality])
        if len(some):
            mine = {name: type(each)(*(part[some] for part in each)) for name, each in inputs.items()}
            yield start, mine, some.numpy()


if __name__ == "__main__":
    main()

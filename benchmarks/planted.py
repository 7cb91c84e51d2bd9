"""Does a comparison declare the right winner, and none where there is none? python benchmarks/planted.py.

Twenty cohorts a recipe, each with patients, outcomes, splits and training seeds of its own, go through `compare` as a
user's do. In `synergy` (code XOR note, codes read by the graph) early fusion must lead and beat late fusion and either
modality; in `ancestor` what reads the graph must lead and beat codes by number, because patients have codes that
training never saw; in `noise` any difference that is shown is a false win. Wanted: right winners in at least 95%, false
wins in at most 5%.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmark import recipe_config
from experiments.comparing import compare_config
from experiments.comparison import Comparison
from experiments.config import Config, parse_config


@dataclass(frozen=True)
class Planted:
    """What is compared on a recipe, who may lead, and whom the leader must beat; nobody where there is nothing."""

    encoders: Mapping[str, str]
    fusions: tuple[str, ...]
    winners: tuple[str, ...] = ()
    losers: tuple[str, ...] = ()


GRAPH = ("early", "late", "graph")  # all that read it
SUITE = {
    "synergy": Planted(
        {"graph": "ancestors", "notes": "bag"}, ("early", "late"), ("early",), ("late", "graph", "notes")
    ),
    "ancestor": Planted({"codes": "bag", "graph": "ancestors"}, ("early", "late"), GRAPH, ("codes", "boosted_counts")),
    "noise": Planted({"codes": "bag", "notes": "bag", "graph": "ancestors"}, ("early", "late", "gated")),
}


def study(recipe: str, seed: int, runs: Path, train_seeds: int) -> Config:
    """Return the comparison of a recipe on a cohort of its own."""
    planted, config = SUITE[recipe], recipe_config(recipe, runs).model_dump(mode="json")
    config["name"] = f"{recipe}-{seed}"
    config["seed"] = seed
    config["data"]["folder"] = str(runs / "data" / config["name"])
    config["data"]["synthetic"]["seed"] = 1000 + seed
    config["model"]["encoders"] = dict(planted.encoders)
    config["compare"] |= {"fusions": list(planted.fusions), "seeds": train_seeds}
    return parse_config(config)


def right(planted: Planted, found: Comparison) -> bool:
    """Tell whether the right one leads and is shown to beat all it must; with no winner, whether nothing is shown."""
    if not planted.winners:
        return not any(each.shown for each in found.differences)
    leader = found.ranking()[0].strategy
    beaten = {each.second for each in found.differences if each.first == leader and each.shown}
    return leader in planted.winners and beaten >= set(planted.losers)


def main() -> None:
    """Print a line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(SUITE), default=list(SUITE))
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--train-seeds", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        planted, count = SUITE[recipe], 0
        for seed in range(arguments.cohorts):
            found, _ = compare_config(study(recipe, seed, arguments.runs, arguments.train_seeds), progress=False)
            mine = right(planted, found)
            count += mine
            print(f"  {recipe} {seed}: {'right' if mine else 'wrong'}; {found.verdict()}", flush=True)
        said = f"the right one declared winner in {count}" if planted.winners else f"nothing shown in {count}"
        print(f"{recipe}: {said} of {arguments.cohorts} cohorts", flush=True)


if __name__ == "__main__":
    main()

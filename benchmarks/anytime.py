"""Ways to search AutoFM's space at the same budget of seconds: `python benchmarks/anytime.py`.

Every way searches the same synthetic patients with the same encoders, several times; the picture shows the best score
so far, the table what the best candidate is worth with fresh seeds. Where differentiable search does not beat random
search, the last lines say so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.benchmark import recipe_config
from experiments.config import StudyConfig, parse_config
from experiments.race import race_studies, run_race
from experiments.searching import run_search
from experiments.studies import preparations_of, study_space
from experiments.workspace import open_store

BILEVEL = {"method": "bilevel", "epochs": 6, "order": 1}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "supernet": {"supernet": BILEVEL},
    "single_path": {"supernet": {"method": "single_path", "epochs": 6, "paths": 40, "top": 3}},
    "tpe": {},
    "evolution": {"sampler": "evolution"},
    "random": {"sampler": "random"},
}
"""What follows a network of all architectures is TPE, from the architectures it found."""


def study(recipe: str, folder: Path, seconds: float, patients: int) -> StudyConfig:
    """Return the study of a recipe: AutoFM's space over fixed encoders, and the learning rate."""
    plain = recipe_config(recipe, folder, patients=patients).model_dump(mode="json")
    encoders = {name: [spec] if isinstance(spec, str) else spec for name, spec in plain["model"]["encoders"].items()}
    encoders["images"] = {
        "conv": {"width": 8, "grid": 1, "stages": 3, "pool": "tokens", "augment": 0.0, "dropout": 0.1}
    }
    for name in ("codes", "notes", "graph"):
        encoders[name] = {encoders[name][0]: {"dropout": 0.1}}
    del plain["model"]
    plain["name"] = f"anytime-{recipe}"
    plain["space"] = {
        "encoders": encoders,
        "fusion": {"autofm": {"dropout": 0.1}},
        "dim": 32,
        "training": {"lr": {"low": 5e-4, "high": 5e-3, "log": True}},
    }
    plain["search"] = {"seconds": seconds, "workers": 1}
    found = parse_config(plain)
    assert isinstance(found, StudyConfig)
    return found


def run_at_once(config: StudyConfig, count: int, repeats: int, arguments: Sequence[str]) -> None:
    """Run the searches of a race in processes of their own, `count` at a time; the race then finds them done."""
    open_store(config).prepare(preparations_of(study_space(config), config))

    def run(plan: tuple[str, int]) -> None:
        command = [sys.executable, __file__, *arguments, "--only", f"{plan[0]}-{plan[1]}"]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, race_studies(config, METHODS, repeats)))  # a list, so that a failure is raised


def main() -> None:
    """Run every way and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["mixed", "synergy"])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--patients", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="searches side by side, one worker each")
    parser.add_argument("--only", metavar="METHOD-REPEAT", help="run this search and no more")
    parser.add_argument("--folder", type=Path, default=Path("runs") / "benchmark")
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        config = study(recipe, arguments.folder, arguments.seconds, arguments.patients)
        if arguments.only is not None:
            method, _, repeat = arguments.only.rpartition("-")
            run_search(race_studies(config, METHODS, arguments.repeats)[method, int(repeat)], 1, live=False)
            continue
        workers = arguments.workers
        if arguments.at_once > 1:
            run_at_once(config, arguments.at_once, arguments.repeats, [*sys.argv[1:], "--recipes", recipe])
            workers = arguments.at_once
        race = run_race(config, METHODS, "random", repeats=arguments.repeats, workers=workers)
        from rich.console import Console

        Console().print(race.render())
        print(race.write(config.folder / "race"))


if __name__ == "__main__":
    main()

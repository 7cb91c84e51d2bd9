"""Whether explanations find planted causes: python benchmarks/explanations.py --recipes unique,synergy,noise.

Of each recipe one early fusion is trained. Printed are the modality Shapley values of the AUROC with their intervals,
the interaction of codes and notes, and the codes and words with the largest mean attributions. Planted are: leaves of
I50 (disease there) and E78 (not there), decisive words of notes, and a bright spot in images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.coalitions import coalition_predictions, who_has
from experiments.config import parse_config
from experiments.data.store import Store
from experiments.explaining.attribution import attribute
from experiments.explaining.contributions import contributions, in_words, interactions_of
from experiments.explaining.gates import items_of
from experiments.explaining.sets import Sets
from experiments.explaining.tally import Tally, names_of
from experiments.metrics import METRICS
from experiments.scoring import Tested
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture
from fusion.model import present_rows

ENCODERS = {"codes": "bag", "notes": "bag", "images": "conv"}


def main() -> None:
    """Print what explanations say of each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default="unique,synergy,noise")
    parser.add_argument("--patients", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--encoders", default="codes,notes,images")
    chosen = parser.parse_args()
    encoders = {name: ENCODERS[name] for name in chosen.encoders.split(",")}
    for recipe in chosen.recipes.split(","):
        with TemporaryDirectory() as folder:
            explain(recipe, Path(folder), chosen.patients, chosen.epochs, encoders)


def explain(recipe: str, folder: Path, patients: int, epochs: int, encoders: dict[str, str]) -> None:
    """Train on one recipe and print its explanations."""
    start = time.process_time()
    config = parse_config(
        {
            "name": recipe,
            "runs": str(folder / "runs"),
            "data": {"folder": str(folder / "data"), "synthetic": {"patients": patients, "recipe": recipe}},
            "training": {"epochs": epochs, "patience": epochs, "lr": 3e-3},  # exclusive or shows nothing for long
            "model": {"encoders": encoders, "fusion": "early", "dim": 32},
        }
    )
    store, architecture = open_store(config), Architecture.from_dict(config.model.model_dump())  # type: ignore[union-attr]
    fit = train(architecture, store, config.training, 0, preprocess=config.data.preprocess)  # type: ignore[union-attr]
    rows, cohort = store.cohort.rows("held_out"), store.cohort
    predicted = coalition_predictions(fit.model, fit.preparations, store, rows)[..., 0]
    sets = Sets("early", tuple(fit.preparations), (predicted,), who_has(fit.preparations, store, rows))
    tested = Tested.of(cohort.targets[rows], cohort.subject_ids[rows])
    scores = sets.scores(tested, METRICS["auroc"])
    print(f"\n{recipe}: AUROC {scores[-1].value:.3f} of {len(rows)} held-out patients")
    for each in contributions(sets, scores, tested, store.task):
        print(f"  {each.modality:7} {in_words(each.value)}, share of predictions {each.share.value:.0%}")
    for pair in interactions_of(sets, scores):
        print(f"  {pair.first} x {pair.second}: {in_words(pair.together)}")
    for modality in ("codes", "notes"):
        top = attributed(fit, store, modality, rows.tolist())[:8]
        print(f"  {modality}: " + ", ".join(f"{name} {mean:+.2f} ({count})" for name, count, mean, _ in top))
    print(f"  {time.process_time() - start:.0f} s of CPU")


def attributed(fit: Fit, store: Store, modality: str, rows: Sequence[int]) -> list[tuple[str, int, float, float]]:
    """Return the codes or words of held-out patients that move predictions most."""
    tally, model = Tally(), fit.model.cpu().eval()
    for place in range(0, len(rows), 64):
        here = torch.tensor(rows[place : place + 64])
        inputs = {name: store.source(plan).collate(here) for name, plan in fit.preparations.items()}
        some, _ = present_rows(inputs[modality])
        mine = {name: type(each)(*(part[some] for part in each)) for name, each in inputs.items()}
        found = attribute(model, mine, modality, 0).values
        items = items_of(mine[modality])
        assert items is not None
        tally.add(items[0].numpy(), items[1].numpy(), found.double().numpy(), here[some].tolist())
    return [tuple(each) for each in tally.table(names_of(store.preprocessor(fit.preparations[modality])))[0]]  # type: ignore[misc]


if __name__ == "__main__":
    main()

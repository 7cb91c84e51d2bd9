"""How often Shapley values and interactions seem to be there where nothing is: python benchmarks/explained_noise.py.

Cohorts of the recipe noise, each with patients, outcomes and training of its own. Of 95% intervals over held-out
patients, about one in twenty should miss 0; they hold for the trained model, whose training is not drawn again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from explanations import Case, covers_nothing, trained

from experiments.explaining.contributions import contributions, in_words, interactions_of
from experiments.metrics import METRICS

NOISE = Case("noise", {"codes": "bag", "notes": "bag", "graph": "ancestors"}, 1000)


def main() -> None:
    """Print a line a cohort, and how many intervals cover 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=10)
    values, pairs = [], []
    for seed in range(parser.parse_args().cohorts):
        with TemporaryDirectory() as folder:
            _, store, _, sets, tested = trained(NOISE, Path(folder), seed)
        metric = METRICS["auroc"]
        mine = contributions(sets, tested, metric, store.task)
        values += [each.value for each in mine]
        pairs += [each.together for each in interactions_of(sets, tested, metric)]
        said = ", ".join(f"{each.modality} {in_words(each.value)}" for each in mine)
        print(f"{seed}: AUROC {sets.value(tested, metric, 2 ** len(sets.modalities) - 1):.3f}; {said}", flush=True)
        for name, spans in (("Shapley values", values), ("interactions", pairs)):
            print(f"  {name}: {sum(map(covers_nothing, spans))} of {len(spans)} intervals cover 0", flush=True)


if __name__ == "__main__":
    main()

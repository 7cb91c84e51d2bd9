"""What clinical questions are answered from: risks of held-out patients, and of the tuning patients of each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluate import squeeze_outputs
from experiments.scoring import Score, Tested, mean_score
from experiments.statistics.means import Quantities

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row
    from experiments.sections import Findings

Array = NDArray[Any]
Rule = Callable[[Array, Array, Array], Array]
"""Makes something of new predictions, fitted on targets and predictions of tuning patients."""
SHARES = (
    "Intervals of shares are Wilson's, so they have a width at 0 and 1 too; several rows of a patient count as so many "
    "as would vary as much over resampled patients, and once where no resample differs."
)
"""What tables of shares say of their intervals."""
_SHOWN = ("fusion", "modality", "control", "training")


@dataclass(frozen=True)
class Evidence:
    """Predictions of held-out rows, and what each run predicted of its tuning rows.

    Args:
        fold: which fold held each row out. Shape: (N,).
        predictions: of each strategy, one a seed. Shape: (N,) or (N, K) each.
        tuning: of the strategies shown, by seed and fold. Shape: (T,) or (T, K) each.
        tuning_targets: by fold. Shape: (T,) or (T, K) each.
        shown: the label of each strategy that is shown, by its name.
    """

    tested: Tested
    fold: Array
    predictions: Mapping[str, Sequence[Array]]
    tuning: Mapping[str, Sequence[Sequence[Array]]]
    tuning_targets: Sequence[Array]
    shown: Mapping[str, str]

    def fitted(self, strategy: str, rule: Rule) -> list[Array]:
        """Return what a rule makes of the held-out rows, each run's own fitted on its own tuning rows; one a seed."""
        found = []
        for prediction, tuning in zip(self.predictions[strategy], self.tuning[strategy], strict=True):
            parts = [
                rule(self.tuning_targets[fold], known, prediction[self.fold == fold])
                for fold, known in enumerate(tuning)
            ]
            whole = np.empty((len(prediction), *parts[0].shape[1:]), parts[0].dtype)
            for fold, part in enumerate(parts):
                whole[self.fold == fold] = part
            found.append(whole)
        return found

    def mean(self, wanted: Quantities, predictions: Sequence[Array]) -> dict[str, Score]:
        """Return quantities by name, averaged over seeds in every resample."""
        by_seed = [self.tested.quantities(wanted, each) for each in predictions]
        return {name: mean_score([each[name] for each in by_seed]) for name in wanted.names}

    def label(self, place: int) -> Evidence:
        """Return the same of one label of several."""
        return replace(
            self,
            tested=replace(self.tested, target=self.tested.target[:, place]),
            predictions={name: [each[:, place] for each in seeds] for name, seeds in self.predictions.items()},
            tuning={
                name: [[each[:, place] for each in folds] for folds in seeds] for name, seeds in self.tuning.items()
            },
            tuning_targets=[each[:, place] for each in self.tuning_targets],
        )


def shown_rows(comparison: Comparison) -> list[Row]:
    """Return the best fusion, single modality, control and way to train by the primary metric, as far as there are."""
    found = (comparison.best(kind) for kind in _SHOWN)
    return [each for each in found if each is not None]


def evidence(findings: Findings) -> Evidence:
    """Collect the evidence; a strategy whose runs left no tuning predictions is not in `tuning`."""
    held_out, store = findings.held_out, findings.stores[0]
    shown = {row.strategy: row.label for row in shown_rows(findings.comparison)}
    tuning = {name: held_out.arrays(name, "tuning_predictions") for name in shown}
    return Evidence(
        findings.tested(),
        held_out.fold,
        held_out.predictions,
        {
            name: [[squeeze_outputs(store.task, each) for each in folds] for folds in seeds]
            for name, seeds in tuning.items()
            if seeds is not None
        },
        [store.cohort.targets[rows] for rows in held_out.tuning],
        shown,
    )


def tuning_words(found: Evidence) -> str:
    """Say, after a comma, what is fitted on whom."""
    folds = len(found.tuning_targets)
    counts = sorted({len(each) for each in found.tuning_targets})
    size = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    of = "each fold's own" if folds > 1 else "the"
    return (
        f"fitted on {of} {size} tuning rows of each run and applied to held-out ones. The tuning patients also chose "
        "the epoch, so their predictions are slightly better than those of new patients."
    )

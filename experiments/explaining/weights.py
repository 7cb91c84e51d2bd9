"""How much fusions that give each modality a view of its own let it count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.held_out import HeldOut
from experiments.section import Table


def weights_table(held_out: HeldOut, strategies: Sequence[str]) -> Table | None:
    """Return the mean weight of each modality in each strategy that has such weights; None where none has.

    A weight is the mean over held-out rows that have the modality, then over folds and seeds.
    """
    rows = []
    for strategy in strategies:
        seeds, names = held_out.arrays(strategy, "weights"), held_out.arrays(strategy, "modalities")
        if not seeds or not names:
            continue
        means = np.array([np.mean(folds, axis=0) for folds in seeds])
        spread = means.std(0, ddof=1) if len(means) > 1 else np.full(means.shape[1], np.nan)
        modalities = names[0][0].tolist()
        rows += [[strategy, *each] for each in zip(modalities, means.mean(0).tolist(), spread.tolist(), strict=True)]
    if not rows:
        return None
    note = (
        "How much a fusion with a view a modality lets each view count, over patients who have the modality. A fusion "
        "that scales its views themselves (stacking) lets all that are there count the same."
    )
    return Table(["strategy", "modality", "mean weight", "seed SD"], rows, note)

"""Shares of the training patients, from which the first epochs of a search's trials learn: nested, the same for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shares:
    """Which share of the training patients each epoch learns from; after the last step, all do.

    Patients are put into one seeded order, and a share is its beginning: so shares are nested, a patient's rows stay
    together, and trials that are compared at an epoch have learned from the same patients.

    Args:
        steps: (last epoch, share) of each step, epochs counted from 1, both rising; shares between 0 and 1.

    Reference:
        Klein et al., Fast Bayesian Optimization of Machine Learning Hyperparameters on Large Datasets, 2017, choose the
        share of the data for each trial; here it rises with the epochs, at the rungs of successive halving.
    """

    steps: tuple[tuple[int, float], ...]
    seed: int

    @property
    def last(self) -> int:
        """The last epoch that does not learn from all patients."""
        return self.steps[-1][0]

    def at(self, epoch: int) -> float:
        """Return the share of an epoch, counted from 1."""
        return next((share for until, share in self.steps if epoch <= until), 1.0)

    def rows(self, subjects: NDArray[np.int64], rows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Return the rows of the patients that an epoch learns from, at least one patient's.

        Shape:
            subjects (N,) of all rows of the cohort, rows (n,) -> (m,) with m <= n, in the same order.
        """
        share = self.at(epoch)
        if share >= 1.0:
            return rows
        patients = np.random.default_rng(self.seed).permutation(np.unique(subjects[rows]))
        return rows[np.isin(subjects[rows], patients[: max(1, round(share * len(patients)))])]


def share_entry(shares: Shares | None, epoch: int) -> dict[str, float]:
    """Return what a history says about the share of an epoch, counted from 1; nothing where it is all patients."""
    share = 1.0 if shares is None else shares.at(epoch)
    return {"share": share} if share < 1 else {}

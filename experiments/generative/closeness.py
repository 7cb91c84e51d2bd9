"""How close synthetic rows come to the patients they were learned from, beside patients who were not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from experiments.metrics import METRICS
from experiments.scoring import Tested
from experiments.statistics.intervals import Interval
from experiments.statistics.shares import wilson

Array = NDArray[Any]


@dataclass(frozen=True)
class Closeness:
    """Distances to closest records, and what an attacker with the synthetic rows gets out of them.

    `synthetic` and `held_out` are the median distances of synthetic rows and of held-out patients to the closest
    training patient; `nearer` is the share of synthetic rows that are nearer to a training than to a held-out patient,
    out of as many of each; `copies` the share of synthetic rows that equal a training patient; `membership` the AUROC
    with which the distance to the closest synthetic row tells training from held-out patients.
    """

    synthetic: float
    held_out: float
    nearer: Interval
    copies: float
    membership: Interval

    @property
    def quiet(self) -> bool:
        """Whether neither figure tells training patients from others: what it is by chance lies in both intervals."""
        return self.nearer.low <= 0.5 and self.membership.low <= 0.5

    def lines(self) -> list[str]:
        """Return the figures in words."""
        near, told = self.nearer, self.membership
        return [
            f"closest record: median distance of synthetic rows to a training patient {self.synthetic:.3f}, of held-out"
            f" patients to a training patient {self.held_out:.3f}; {self.copies:.1%} of synthetic rows equal one",
            f"nearer to a training than to a held-out patient, of as many: {near.value:.1%} ({near.low:.1%} to "
            f"{near.high:.1%}) of synthetic rows; 50% if training patients were no closer than others",
            f"membership inference: whether a patient was learned from, by the closest synthetic row: AUROC "
            f"{told.value:.3f} ({told.low:.3f} to {told.high:.3f}); 0.5 is chance",
        ]


def closeness(
    training: Array, held_out: Array, synthetic: Array, held_out_ids: Array, train_ids: Array, seed: int
) -> Closeness:
    """Compare distances between cells, root mean square over cells.

    Shape:
        training (N, C), held_out (M, C), synthetic (S, C); ids (N,) and (M,).

    Reference:
        Zhao et al., CTAB-GAN, 2021 (distance to closest record). Yale et al., Generation and Evaluation of Privacy
        Preserving Synthetic Health Data, 2020 (training against held-out patients). Hilprecht et al., Monte Carlo and
        Reconstruction Membership Inference Attacks against Generative Models, 2019 (membership by distance).
    """
    rng = np.random.default_rng(seed)
    few = min(len(training), len(held_out))
    some, others = rng.permutation(len(training))[:few], rng.permutation(len(held_out))[:few]
    to_training, to_held_out = nearest(training[some], synthetic), nearest(held_out[others], synthetic)
    ties = np.isclose(to_training, to_held_out)
    share = float(np.where(ties, 0.5, to_training < to_held_out).mean())
    low, high = wilson(share, len(synthetic))
    whole = nearest(training, synthetic)
    told = -np.concatenate([nearest(synthetic, training), nearest(synthetic, held_out)])
    target = np.repeat([1.0, 0.0], [len(training), len(held_out)])
    tested = Tested.of(target, np.concatenate([train_ids, held_out_ids]), None)
    membership = tested.score([METRICS["auroc"]], told)["auroc"].interval
    return Closeness(
        float(np.median(whole)),
        float(np.median(nearest(training, held_out))),
        Interval(share, float(low), float(high)),
        float((whole < 1e-6).mean()),
        membership,
    )


def nearest(those: Array, to: Array) -> Array:
    """Return the distance of each row to the closest of those. Shape: (N, C), (M, C) -> (M,)."""
    found = NearestNeighbors(n_neighbors=1).fit(those).kneighbors(to)[0][:, 0]
    return np.asarray(found / np.sqrt(those.shape[1]))

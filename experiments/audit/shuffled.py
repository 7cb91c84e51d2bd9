"""A check of the splits as a whole: labels that mean nothing cannot be learned, unless the splits share patients."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from experiments.audit.evidence import Evidence, some
from experiments.audit.finding import Finding, Outcome, Skipped

_SHUFFLES = 16
_MOST = 5000  # rows to learn from, and as many to test on
_ERRORS = 4  # standard errors above chance: once in 30,000 clean cohorts
_LEAST = 20  # people to test on


def shuffled(evidence: Evidence) -> Outcome:
    """A linear probe on counts of codes learns nothing from labels that were shuffled among people.

    People are patients, and patients who look like one person (`links`) together; all rows of a person get one random
    label. What is learned on training rows must then be worthless on the others: better than chance means that the
    same people are on both sides, and by how much they flatter a model.
    """
    cohort = evidence.cohort
    people = _people(evidence)
    train = some(cohort.rows("train"), _MOST, evidence.seed)
    test = some(np.flatnonzero(cohort.split != "train"), _MOST, evidence.seed)
    counts = evidence.seen.counts()
    have = np.diff(counts.indptr) > 0
    train, test = train[have[train]], test[have[test]]
    count = len(np.unique(people[test]))
    if min(count, len(np.unique(people[train]))) < _LEAST:
        raise Skipped(f"fewer than {_LEAST} patients with coded events on either side")
    rng = np.random.default_rng(evidence.seed)
    labels = rng.integers(0, 2, (people.max() + 1, _SHUFFLES))[people]
    features = _scaled(counts)
    fitted = Ridge(1.0, solver="lsqr", max_iter=200, tol=1e-3).fit(features[train], labels[train])
    asked = zip(labels[test].T, fitted.predict(features[test]).T, strict=True)
    scores = [roc_auc_score(label, score) for label, score in asked if 0 < label.sum() < len(label)]
    mean = float(np.mean(scores))
    # half of the people have either label; rows of one person count once
    bound = 0.5 + _ERRORS * np.sqrt((count + 1) / (12 * (count / 2) ** 2) / len(scores))
    measured = f"mean AUROC {mean:.3f} of {len(scores)} shuffles on {len(test):,} rows; at most {bound:.3f} by chance"
    if mean <= bound:
        return Outcome(measured)
    what = f"labels shuffled among people are still predicted, with a mean AUROC of {mean:.3f} (chance is 0.5)"
    advice = "the same people are in several splits: give each one subject_id, then split anew"
    return Outcome(measured, [Finding("error", "splits", what, advice)])


def _people(evidence: Evidence) -> NDArray[np.int64]:
    """Number the person of each row: patients who look like one are one. Shape: (N,)."""
    subjects, place = np.unique(evidence.cohort.subject_ids, return_inverse=True)
    pairs: pl.DataFrame = evidence.links
    first, second = (np.searchsorted(subjects, pairs[side].to_numpy()) for side in ("first", "second"))
    shape = (len(subjects), len(subjects))
    graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=shape)
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1][place].astype(np.int64)
    return found


def _scaled(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Make rare codes, which tell people apart, weigh as much as common ones, and all rows equally long."""
    from sklearn.feature_extraction.text import TfidfTransformer

    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)

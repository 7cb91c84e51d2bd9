"""A check of images: what has nothing to do with the patient (size, borders, corners) must not tell the label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from encoders.images.reading import open_image
from encoders.records import UnreadableImage
from experiments.audit.evidence import Evidence, some
from experiments.audit.finding import Finding, Outcome, Skipped

MOST = 600  # images that are read, because large ones take long
_LEAST = 30  # images of each class below which a probe says nothing
_WARN, _FAIL = 0.65, 0.85  # AUROC of the probe, three standard errors off
_CORNER, _EDGE = 16, 32  # a corner is this part of the side, a border that part
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff")


def giveaways(evidence: Evidence) -> Outcome:
    """Size, file type, borders and corners of images do not tell the label: they show the device and the site.

    A forest is trained on them alone, one image a training row, and tested by patient. It must stay near chance.

    Reference:
        DeGrave, Janizek, Lee, AI for Radiographic COVID-19 Detection Selects Shortcuts over Signal, 2021.
    """
    latest = {image.row: image.path for image in evidence.seen.images}
    rows = evidence.cohort.rows("train")
    rows = some(rows[np.isin(rows, list(latest))], MOST, evidence.seed)
    if not len(rows):
        raise Skipped("no images")
    table, rows = _table([(row, latest[row]) for row in rows.tolist()])
    score, label, looked = 0.5, "", False
    spread = 0.0
    for name, positive in evidence.classes(rows):
        if min(positive.sum(), (~positive).sum()) < _LEAST:
            continue
        found, looked = _probe(table, positive, evidence.cohort.subject_ids[rows], evidence.seed), True
        if found >= score:
            score, label, spread = found, name, auroc_error(positive)
    if not looked:
        raise Skipped(f"fewer than {_LEAST} training images of each class")
    measured = f"AUROC {score:.3f} of size, borders and corners, on {len(rows):,} training images"
    low = score - 3 * spread
    if score < _WARN or low <= 0.5:
        return Outcome(measured)
    of = f" of {label}" if label else ""
    what = f"size, borders and corners of images tell the label{of} with an AUROC of {score:.3f}"
    advice = "crop and scale all images alike, mask marks, and see which site or device they are from"
    return Outcome(measured, [Finding("error" if low >= _FAIL else "warning", "images", what, advice)])


def auroc_error(positive: NDArray[np.bool_]) -> float:
    """Return the standard error of an AUROC at chance. Shape: (n,) bool -> float.

    Reference:
        Mann, Whitney, On a Test of Whether One of Two Random Variables Is Stochastically Larger, 1947.
    """
    many, few = float(positive.sum()), float((~positive).sum())
    return float(np.sqrt((many + few + 1) / (12 * many * few)))


def _table(images: list[tuple[int, Path]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return features of the readable images and their rows. Shape: (n, F), (n,)."""
    rows, table = [], []
    for row, path in images:
        try:
            table.append(list(_outside(open_image(path, "L"), path)))
        except UnreadableImage:
            continue
        rows.append(row)
    if not rows:
        raise Skipped("no readable images")
    return np.array(table), np.array(rows)


def _outside(image: Pillow.Image, path: Path) -> Iterator[float]:
    """Yield what an image looks like where no patient is: size, kind of file, corners, border."""
    pixels = np.asarray(image, np.float64)
    height, width = pixels.shape
    yield from (width, height, width / height)
    yield float(SUFFIXES.index(path.suffix.lower())) if path.suffix.lower() in SUFFIXES else -1.0
    down, across = max(1, height // _CORNER), max(1, width // _CORNER)
    for rows in (slice(0, down), slice(height - down, height)):
        for columns in (slice(0, across), slice(width - across, width)):
            yield float(pixels[rows, columns].mean())
    down, across = max(1, height // _EDGE), max(1, width // _EDGE)
    sides = (pixels[:down], pixels[-down:], pixels[:, :across], pixels[:, -across:])
    border = np.concatenate([side.ravel() for side in sides])
    yield from (float(border.mean()), float(border.std()), float((border <= 1).mean()), float((border >= 254).mean()))


def _probe(table: NDArray[np.float64], positive: NDArray[np.bool_], groups: NDArray[np.int64], seed: int) -> float:
    """Return the AUROC of a forest's predictions for patients it was not trained on. Shape: (n, F), (n,), (n,)."""
    predicted = np.zeros(len(positive))
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
    for train, test in folds.split(table, positive, groups):
        if len(np.unique(positive[train])) < 2:
            continue
        forest = RandomForestClassifier(60, min_samples_leaf=5, random_state=seed, n_jobs=1)
        predicted[test] = forest.fit(table[train], positive[train]).predict_proba(table[test])[:, 1]
    return float(roc_auc_score(positive, predicted))

"""Vectors of patients at their prediction times: which columns they have is learned from training records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from experiments.generative.facts import Facts
from fusion.component import UsageError

Array = NDArray[Any]
Part = Literal["codes", "notes", "images", "label"]
STATISTICS = ("last", "lowest", "highest")
NUMBERS, CODES, WORDS, NOTES, IMAGES = 32, 48, 1000, 16, 8  # columns at most; words counted
_MEASURED, _RARE = 0.05, 0.02  # share of training records that must have a value; that must have, or lack, a code
_FEW = 5  # patients of whom no column may tell
_LEAST = 10  # training records from which anything can be learned


class Column(NamedTuple):
    """A column: its name, what it is there or absent together with, its modality and whether it is yes or no."""

    name: str
    group: str
    part: Part
    flag: bool


class Vectors(NamedTuple):
    """Rows of patients. Shape: values (N, D) float64, NaN where a patient lacks it; flags are 0 or 1."""

    columns: tuple[Column, ...]
    values: Array

    def rows(self, chosen: Array) -> Vectors:
        """Return some rows. Shape: chosen (M,) int64 or (N,) bool."""
        return Vectors(self.columns, self.values[chosen])


@dataclass(frozen=True)
class Reader:
    """What turns facts into vectors; `words` and `pictures` are fitted maps to a few numbers, None without such."""

    measurements: tuple[str, ...]
    statistics: tuple[int, ...]
    codes: tuple[str, ...]
    words: Any
    pictures: Any
    columns: tuple[Column, ...]

    def vectors(self, facts: Sequence[Facts]) -> Vectors:
        """Return a row for each record, without a label."""
        missing = (np.nan,) * len(STATISTICS)
        found = [[each.numbers.get(code, missing) for code in self.measurements] for each in facts]
        numbers = np.array(found, np.float64).reshape(len(facts), len(self.measurements), len(STATISTICS))
        has = [[code in each.codes for code in self.codes] for each in facts]
        parts = [numbers[:, :, list(self.statistics)].reshape(len(facts), -1)]
        parts.append(np.array(has, np.float64).reshape(len(facts), len(self.codes)))
        if self.words is not None:
            parts.append(_mapped([each.text for each in facts], self.words.transform, self._width("notes")))
        if self.pictures is not None:
            parts.append(_mapped([each.picture for each in facts], self.pictures.transform, self._width("images")))
        return Vectors(self.columns, np.concatenate(parts, axis=1))

    def _width(self, part: Part) -> int:
        return sum(column.part == part for column in self.columns)


def fit_reader(facts: Sequence[Facts], statistics: Sequence[str] = ("last",), seed: int = 0) -> Reader:
    """Choose the columns by training records: common measurements and codes, main directions of words and pictures.

    Measurements that never vary, and codes that all or nearly none have, are left out; of codes that the same records
    have, one is kept.

    Args:
        statistics: of `STATISTICS`, the columns a measurement has.

    Raises:
        UsageError: there are too few records, or nothing in them varies.
    """
    if len(facts) < _LEAST:
        raise UsageError(f"vectors are learned from at least {_LEAST} training records; got {len(facts)}")
    chosen = tuple(STATISTICS.index(name) for name in statistics)
    measurements = _measurements(facts)
    codes = _codes(facts, set(measurements))
    words, note_width = _words([each.text for each in facts if each.text is not None], seed)
    pictures, image_width = _pictures([each.picture for each in facts if each.picture is not None])
    columns = [
        Column(code if statistics == ("last",) else f"{code} {name}", code, "codes", False)
        for code in measurements
        for name in statistics
    ]
    columns += [Column(code, code, "codes", True) for code in codes]
    columns += [Column(f"notes {i + 1}", "notes", "notes", False) for i in range(note_width)]
    columns += [Column(f"image {i + 1}", "images", "images", False) for i in range(image_width)]
    if not columns:
        raise UsageError(f"none of {len(facts)} training records has a value, code, note or image that others lack")
    return Reader(measurements, chosen, codes, words, pictures, tuple(columns))


def with_label(vectors: Vectors, name: str, label: Array) -> Vectors:
    """Return vectors with a binary label as their last column. Shape: label (N,)."""
    column = Column(name, name, "label", True)
    return Vectors((*vectors.columns, column), np.column_stack([vectors.values, label.astype(np.float64)]))


def _measurements(facts: Sequence[Facts]) -> tuple[str, ...]:
    """Return the codes that most often have values, which are not always the same."""
    counts = Counter(code for each in facts for code in each.numbers)
    common = [code for code, count in counts.items() if count >= max(_FEW, _MEASURED * len(facts))]
    varied = [code for code in common if len({e.numbers[code][0] for e in facts if code in e.numbers}) > 1]
    return tuple(sorted(sorted(varied, key=lambda code: (-counts[code], code))[:NUMBERS]))


def _codes(facts: Sequence[Facts], measurements: set[str]) -> tuple[str, ...]:
    """Return the codes that tell most about who has them, each set of patients once."""
    count = len(facts)
    having: dict[str, list[int]] = {}
    for row, each in enumerate(facts):
        for code in each.codes - measurements:
            having.setdefault(code, []).append(row)
    least = max(_FEW, _RARE * count)
    varied = {code: rows for code, rows in having.items() if least <= len(rows) <= count - least}
    once = {tuple(rows): code for code, rows in sorted(varied.items(), reverse=True)}.values()
    return tuple(sorted(sorted(once, key=lambda code: (abs(len(varied[code]) - count / 2), code))[:CODES]))


def _words(texts: Sequence[str], seed: int) -> tuple[Any, int]:
    """Fit the main directions of weighted counts of the most frequent words."""
    if len(texts) < _LEAST:
        return None, 0
    counts = TfidfVectorizer(max_features=WORDS, sublinear_tf=True, min_df=2)
    try:
        found = counts.fit_transform(texts)
    except ValueError:  # no word is in two texts
        return None, 0
    width = min(NOTES, found.shape[1] - 1)
    if width < 1:
        return None, 0
    directions = TruncatedSVD(width, random_state=seed).fit(found)
    return make_pipeline(counts, directions), width


def _pictures(pictures: Sequence[Array]) -> tuple[Any, int]:
    """Fit the main directions of small pictures."""
    width = min(IMAGES, len(pictures) - 1)
    if len(pictures) < _LEAST or not np.std(np.stack(pictures), axis=0).any():
        return None, 0
    return PCA(width, svd_solver="full").fit(np.stack(pictures)), width


def _mapped(given: Sequence[Any], change: Callable[[Any], Array], width: int) -> Array:
    """Map what is not None, the rest is NaN. Shape: -> (len(given), width)."""
    found = np.full((len(given), width), np.nan)
    there = [row for row, each in enumerate(given) if each is not None]
    if there:
        found[there] = change([given[row] for row in there])
    return found

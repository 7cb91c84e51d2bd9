"""The coded events of a shard of patients, as columns; no loop over patients."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.sources.synthetic import vocabulary
from experiments.sources.synthetic.causes import OBSERVED
from experiments.sources.synthetic.recipes import CAUSES, Recipe

HOUR = 3_600 * 1_000_000
DAY = 24 * HOUR
_EPOCH = np.datetime64("2015-01-01", "us").astype(np.int64)
_VISITS = 5


@dataclass
class Patients:
    """Hidden and visible facts of N patients of one shard. Times are microseconds since 1970."""

    subjects: NDArray[np.int64]
    causes: NDArray[np.int8]
    available: NDArray[np.int8]
    outcome: NDArray[np.bool_]
    admitted: NDArray[np.int64]
    left: NDArray[np.int64]
    sites: NDArray[np.str_]
    leaves: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))

    def cause(self, name: str) -> NDArray[np.int8]:
        """Return one cause. Shape: (N,) of 0 and 1."""
        return self.causes[:, CAUSES.index(name)]

    def has(self, modality: str) -> NDArray[np.bool_]:
        """Tell who has a modality. Shape: (N,)."""
        return self.available[:, OBSERVED.index(modality)] == 1

    @property
    def predicted(self) -> NDArray[np.int64]:
        """When the outcome is predicted: a day after admission."""
        return self.admitted + DAY


def admissions(
    subjects: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
    """Draw when patients come, when they leave, and where. Shape: three (N,)."""
    admitted = (
        _EPOCH
        + rng.integers(365 * 2, 365 * 8, len(subjects)) * DAY
        + rng.integers(0, 24 * 60, len(subjects)) * 60_000_000
    )
    left = admitted + (rng.gamma(2.0, 2.0, len(subjects)) * DAY).astype(np.int64) + 2 * DAY
    return (
        admitted,
        left,
        rng.choice(np.array(["north", "south", "east", "west"]), len(subjects), p=[0.4, 0.3, 0.2, 0.1]),
    )


def coded_events(patients: Patients, recipe: Recipe, rng: np.random.Generator) -> list[pl.DataFrame]:
    """Return all events without text and images; codes before the prediction only for those who have codes."""
    there = patients.has("codes")
    visits = _visit_times(patients, rng)
    return [
        _demographics(patients, rng),
        _diagnoses(patients, there, visits, recipe, rng),
        _background(patients, there, visits, recipe, rng),
        *_measurements(patients, there, recipe, rng),
        _stay(patients),
    ]


def frame(
    subjects: NDArray[np.int64],
    times: NDArray[np.int64] | None,
    codes: NDArray[np.object_],
    values: NDArray[np.floating] | None = None,
) -> pl.DataFrame:
    """Put columns together; no times mean static facts."""
    time = (
        pl.Series([None] * len(subjects), dtype=pl.Datetime("us"))
        if times is None
        else pl.Series(times).cast(pl.Datetime("us"))
    )
    value = (
        pl.Series([None] * len(subjects), dtype=pl.Float32) if values is None else pl.Series(values).cast(pl.Float32)
    )
    return pl.DataFrame(
        {"subject_id": subjects, "time": time, "code": pl.Series(codes, dtype=pl.String), "numeric_value": value}
    )


def _visit_times(patients: Patients, rng: np.random.Generator) -> NDArray[np.int64]:
    """Irregular earlier visits, the last column just after admission. Shape: (N, visits + 1)."""
    gaps = (rng.exponential(160, (len(patients.subjects), _VISITS)) * DAY).astype(np.int64) + DAY
    before = patients.admitted[:, None] - np.cumsum(gaps, axis=1)[:, ::-1]
    now = patients.admitted[:, None] + rng.integers(1, 12, (len(patients.subjects), 1)) * HOUR
    return np.concatenate([before, now], axis=1)


def _demographics(patients: Patients, rng: np.random.Generator) -> pl.DataFrame:
    count = len(patients.subjects)
    sex = np.array(["GENDER//F", "GENDER//M"], object)[rng.integers(0, 2, count)]
    group = np.array(["ETHNICITY//A", "ETHNICITY//B", "ETHNICITY//C"], object)[rng.choice(3, count, p=[0.6, 0.3, 0.1])]
    born = patients.admitted - (rng.uniform(30, 90, count) * 365.25 * DAY).astype(np.int64)
    born = born // DAY * DAY
    return pl.concat(
        [
            frame(patients.subjects, None, sex),
            frame(patients.subjects, None, group),
            frame(patients.subjects, born, np.full(count, "MEDS_BIRTH", object)),
        ]
    )


def _diagnoses(
    patients: Patients, there: NDArray[np.bool_], visits: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator
) -> pl.DataFrame:
    """Codes that show causes: two to four leaves of a category or its decoy, two rare leaves of a family."""
    count = len(patients.subjects)
    shows = [vocabulary.leaves(each) for each in (vocabulary.DECOY, vocabulary.DISEASE)]
    parts = []
    for value in (0, 1):
        mine = np.flatnonzero(there & (patients.cause("disease") == value))
        who = np.repeat(mine, rng.integers(2, 5, len(mine)))
        codes = np.array(shows[value], object)[rng.integers(0, len(shows[value]), len(who))]
        parts.append(frame(patients.subjects[who], visits[who, rng.integers(0, _VISITS + 1, len(who))], codes))
    pools = [np.array(vocabulary.family(value, recipe.leaves), object) for value in (0, 1)]
    patients.leaves = np.stack([rng.integers(0, recipe.leaves, count) for _ in range(2)], axis=1).astype(np.int32)
    for value in (0, 1):
        mine = np.flatnonzero(there & (patients.cause("family") == value))
        for column in range(2):
            codes = pools[value][patients.leaves[mine, column]]
            parts.append(frame(patients.subjects[mine], visits[mine, rng.integers(0, _VISITS + 1, len(mine))], codes))
    return pl.concat(parts)


def _background(
    patients: Patients, there: NDArray[np.bool_], visits: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator
) -> pl.DataFrame:
    """Diagnoses and drugs that say nothing, some common, most rare."""
    codes = np.array(vocabulary.background(), object)
    order = np.random.default_rng(7).permutation(len(codes))  # the same codes are common in every shard
    weight = np.empty(len(codes))
    weight[order] = 1 / (np.arange(len(codes)) + 10)
    mine = np.flatnonzero(there)
    who = np.repeat(mine, _some(8, 25, recipe.clutter, len(mine), rng))
    chosen = codes[rng.choice(len(codes), len(who), p=weight / weight.sum())]
    return frame(patients.subjects[who], visits[who, rng.integers(0, _VISITS + 1, len(who))], chosen)


_NORMAL = {
    "LAB//sodium": (139, 3), "LAB//potassium": (4.2, 0.4), "LAB//haemoglobin": (12.5, 1.6), "LAB//crp": (40, 25),
    "VITAL//heart_rate": (84, 14), "VITAL//systolic_blood_pressure": (128, 18), "VITAL//respiratory_rate": (17, 3),
    "VITAL//temperature": (36.9, 0.5), "VITAL//oxygen_saturation": (95, 2),
}  # fmt: skip


def _measurements(
    patients: Patients, there: NDArray[np.bool_], recipe: Recipe, rng: np.random.Generator
) -> list[pl.DataFrame]:
    """Values of the first day. Creatinine shows its cause and is measured more often when it is high."""
    mine = np.flatnonzero(there)
    high = patients.cause("laboratory")[mine]
    who = np.repeat(mine, 1 + rng.poisson(0.5 + 1.5 * high))
    cause = patients.cause("laboratory")[who]
    creatinine = np.where(cause == 1, rng.uniform(1.6, 3.8, len(who)), rng.uniform(0.6, 1.3, len(who)))
    parts = [_during_first_day(patients, who, "LAB//creatinine", creatinine, rng)]
    for code, (centre, spread) in _NORMAL.items():
        who = np.repeat(mine, _some(0, 4, recipe.clutter, len(mine), rng))
        parts.append(_during_first_day(patients, who, code, rng.normal(centre, spread, len(who)).clip(0.1), rng))
    return parts


def _some(low: int, below: int, clutter: float, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw how many of something each patient has, where clutter is a share of the usual amount. Shape: (count,)."""
    usual = rng.integers(low, below, count)
    return usual if clutter == 1 else np.asarray(rng.binomial(usual, clutter))


def _during_first_day(
    patients: Patients, who: NDArray[np.int64], code: str, values: NDArray[np.floating], rng: np.random.Generator
) -> pl.DataFrame:
    times = patients.admitted[who] + (rng.uniform(0.2, 23.5, len(who)) * HOUR).astype(np.int64)
    return frame(patients.subjects[who], times, np.full(len(who), code, object), np.round(values, 2))


def _stay(patients: Patients) -> pl.DataFrame:
    """Admission and how it ended: what lies after the prediction must never be seen by a model."""
    died = patients.outcome
    return pl.concat(
        [
            frame(
                patients.subjects[died],
                patients.left[died] - 12 * HOUR,
                np.full(died.sum(), f"{vocabulary.ICD}Z51.5", object),
            ),
            frame(patients.subjects[died], patients.left[died], np.full(died.sum(), "MEDS_DEATH", object)),
            frame(patients.subjects[~died], patients.left[~died], np.full((~died).sum(), "HOSPITAL_DISCHARGE", object)),
        ]
    )

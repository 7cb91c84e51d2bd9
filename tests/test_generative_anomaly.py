"""Records that do not fit: tails by hand, errors planted by hand, and that what was planted is found and named."""

from __future__ import annotations

import numpy as np
import pytest
from toy_records import NAN, coded, noted

from encoders.records import Record
from experiments.generative.anomaly import Anomalies, Trial, in_words
from experiments.generative.diffusion import Layout, Training, fit_diffusion
from experiments.generative.planting import plant, swapped, unit_error
from experiments.generative.scale import Scale, fit_scale
from experiments.generative.scorers import Odd, Scorer, diffusion_scorer, forest_scorer, furthest_scorer
from experiments.generative.tails import fit_tail
from experiments.generative.vectors import Column, Vectors

COLUMNS = (
    Column("A", "A", "codes", False),
    Column("B", "B", "codes", False),
    Column("notes 1", "notes", "notes", False),
)


def vectors(count: int, seed: int = 0) -> Vectors:
    """Two measurements, the second of which some lack, and notes that say what the first measurement is."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=count)
    second = np.where(rng.random(count) < 0.3, NAN, rng.normal(size=count))
    return Vectors(COLUMNS, np.stack([50 + 5 * first, 7 + second, 0.3 * first + 0.03 * rng.normal(size=count)], axis=1))


@pytest.fixture(scope="module")
def fitted() -> tuple[Scale, dict[str, Scorer]]:
    known = vectors(600)
    scale = fit_scale(known)
    cells = scale.cells(known)
    diffusion = fit_diffusion(cells, Layout.of(scale.groups, scale.parts), Training(400, 128, width=32, dropout=0.0))
    scorers = {"diffusion": diffusion_scorer(diffusion, scale, cells), "forest": forest_scorer(cells, 0)}
    return scale, {**scorers, "furthest": furthest_scorer(scale, cells)}


def test_surprise_is_minus_the_log_share_and_falls_off_exponentially() -> None:
    tail = fit_tail(np.arange(1.0, 100.0))
    found = tail.surprise(np.array([0.0, 50.0, 90.0, NAN]))
    np.testing.assert_allclose(found, [0, -np.log(0.51), -np.log(0.11), 0], atol=1e-12)
    level, excess = tail.level, tail.excess
    beyond = tail.surprise(np.array([level + excess, level + 5 * excess]))
    np.testing.assert_allclose(beyond, np.log(20) + np.array([1, 5]))
    assert fit_tail(np.array([NAN])).surprise(np.array([3.0])).tolist() == [0.0]
    assert np.isfinite(fit_tail(np.ones(20)).surprise(np.array([1.0, 2.0]))).all()


def test_one_value_is_multiplied_and_nothing_else_changes() -> None:
    record = coded(("AGE", 0, 70.0), ("E11", 3, NAN), ("ZERO", 2, 0.0), ("LAB", 1, 4.0))
    wrong = unit_error(record, 10, np.random.default_rng(0))
    assert wrong is not None
    np.testing.assert_array_equal(wrong.codes.values, np.array([70, NAN, 0, 40], np.float32))
    np.testing.assert_array_equal(record.codes.values, np.array([70, NAN, 0, 4], np.float32))
    assert unit_error(coded(("AGE", 0, 70.0), ("E11", 3, NAN)), 10, np.random.default_rng(0)) is None


def test_nobody_keeps_their_notes_and_who_has_none_gets_none() -> None:
    records = [noted((f"note {i}", 1.0)) for i in range(6)] + [Record()]
    found = swapped(records, "notes", np.random.default_rng(0))
    given = [each.notes for each in found if each is not None]
    assert found[-1] is None
    assert sorted(given) == sorted(each.notes for each in records[:6])
    assert all(
        wrong is not None and wrong.notes != right.notes for wrong, right in zip(found[:6], records, strict=False)
    )
    assert plant(records, "images", np.random.default_rng(0)) == [None] * 7
    assert swapped(records[:1], "notes", np.random.default_rng(0)) == [None]


def auroc(scorer: Scorer, clean: np.ndarray, wrong: np.ndarray) -> float:
    return float((scorer(wrong).score[:, None] > scorer(clean).score[None, :]).mean())


def test_a_unit_error_is_found_and_named(fitted: tuple[Scale, dict[str, Scorer]]) -> None:
    scale, scorers = fitted
    known = vectors(200, seed=1)
    wrong = known.values.copy()
    wrong[:, 0] *= 10
    found = scorers["diffusion"](scale.cells(Vectors(COLUMNS, wrong)))
    assert auroc(scorers["diffusion"], scale.cells(known), scale.cells(Vectors(COLUMNS, wrong))) > 0.99
    assert np.mean([found.names[each] == "A" for each in found.what]) > 0.9  # and not the notes, which tell of it


def test_swapped_notes_are_found_by_the_diffusion_model_alone(fitted: tuple[Scale, dict[str, Scorer]]) -> None:
    scale, scorers = fitted
    known = vectors(300, seed=2)
    wrong = known.values.copy()
    wrong[:, 2] = np.roll(wrong[:, 2], 1)
    clean, planted = scale.cells(known), scale.cells(Vectors(COLUMNS, wrong))
    assert auroc(scorers["diffusion"], clean, planted) > 0.75
    assert abs(auroc(scorers["furthest"], clean, planted) - 0.5) < 0.02
    found = scorers["diffusion"](planted)
    standing = found.score > np.log(300)
    assert standing.any()
    assert {found.names[each] for each in found.what[standing]} <= {"notes", "A"}


def test_who_lacks_a_measurement_is_not_odd_for_it(fitted: tuple[Scale, dict[str, Scorer]]) -> None:
    scale, scorers = fitted
    row = np.array([[50.0, NAN, 0.0], [50.0, 1e6, 0.0]])
    found = scorers["diffusion"](scale.cells(Vectors(COLUMNS, row)))
    assert found.score[0] < 3
    assert found.score[1] > 20
    assert found.names[found.what[1]] == "B"
    np.testing.assert_allclose(
        scorers["diffusion"](scale.cells(Vectors(COLUMNS, row[:1]))).score, found.score[:1], atol=1e-4
    )


def test_words_say_how_many_and_why_and_never_who() -> None:
    odd = Odd(np.array([9.0, 8.0, 0.1, 0.0]), np.array([1, 1, 0, 0]), ("A", "notes"))
    found = Anomalies({"diffusion": odd}, (Trial("images", 0, {}),), 3, 7)
    assert in_words(found, "diffusion") == [
        "4 records of 7 columns; learned from 3 of the train split",
        "errors planted in copies of tuning records, AUROC (95% interval over patients):",
        "  another's images (0 records): too few records can have it",
        "by the diffusion model, 2 of 4 records stand out; if all were like most that were learned from, less than one "
        "would",
        "most responsible: notes (2)",
    ]

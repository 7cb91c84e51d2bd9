"""Vectors of patients: what a record comes to, which columns there are, and numbers as normal scores and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_records import NAN, coded, noted

from encoders.records import Edge, Knowledge, Record
from experiments.generative.facts import Facts, ancestors_of, facts_of
from experiments.generative.scale import FURTHEST, fit_scale
from experiments.generative.vectors import Column, Vectors, fit_reader, with_label
from fusion import UsageError

INF = float("inf")


def facts(**numbers: float) -> Facts:
    """A record with a value of each code, which it also has as a code."""
    return facts_of(coded(*((code, 0.0, value) for code, value in numbers.items())), {})


def column(name: str, *, flag: bool = False) -> Column:
    return Column(name, name, "codes", flag)


def test_a_record_comes_to_last_lowest_and_highest_value() -> None:
    record = coded(("LAB", 3, 5.0), ("LAB", 2, 1.0), ("LAB", 1, 3.0), ("E11.9", 1, NAN), ("HR", 0, INF))
    found = facts_of(record, {"E11.9": frozenset({"E11", "E"})})
    assert found.numbers == {"LAB": (3.0, 1.0, 5.0)}  # the infinite one is as if it were not there
    assert found.codes == {"LAB", "HR", "E11.9", "E11", "E"}
    assert found.text is None
    assert found.picture is None
    assert facts_of(noted(("a", 2), ("b", 1)), {}).text == "a\nb"


def test_ancestors_end_where_parents_go_in_a_circle() -> None:
    edges = [Edge("a", "is_a", "b"), Edge("b", "is_a", "c"), Edge("c", "is_a", "b"), Edge("a", "treats", "x")]
    assert ancestors_of(Knowledge(tuple(edges))) == {
        "a": frozenset("bc"),
        "b": frozenset("c"),
        "c": frozenset("b"),
    }


def test_columns_are_what_varies_among_training_records() -> None:
    records = [facts(LAB=float(i), SAME=1.0) for i in range(20)]
    records = [each._replace(codes=each.codes | {"EVERYBODY"}) for each in records]
    twins = {"ODD", "TWIN"}
    records = [each._replace(codes=each.codes | (twins if i % 2 else set())) for i, each in enumerate(records)]
    records[3] = records[3]._replace(codes=records[3].codes | {"ONCE"})
    reader = fit_reader(records, ("last", "highest"))
    # not what all or hardly any have or of which there is one value only; of two codes of the same patients the first
    assert [each.name for each in reader.columns] == ["LAB last", "LAB highest", "ODD"]
    found = reader.vectors([*records[:2], facts_of(Record(), {})])
    np.testing.assert_array_equal(found.values, [[0, 0, 0], [1, 1, 1], [NAN, NAN, 0]])


def test_words_of_notes_become_a_few_numbers_and_none_is_missing() -> None:
    texts = ["cough and fever", "fever and rash", "cough at night", "rash at night"] * 5
    records = [facts_of(noted((text, 1.0)), {}) for text in texts]
    reader = fit_reader([*records, facts_of(Record(), {})])
    assert {each.part for each in reader.columns} == {"notes"}
    found = reader.vectors([records[0], records[4], facts_of(Record(), {})])
    np.testing.assert_allclose(found.values[0], found.values[1])
    assert np.isnan(found.values[2]).all()


def test_too_little_to_learn_from() -> None:
    with pytest.raises(UsageError, match="at least 10 training records; got 1"):
        fit_reader([facts(LAB=1.0)])
    with pytest.raises(UsageError, match="none of 12 training records has a value, code, note or image that others"):
        fit_reader([facts(LAB=1.0)] * 12)


def test_missing_is_nought_with_a_flag_and_comes_back_missing() -> None:
    values = np.array([[1.0, 0], [2.0, 1], [NAN, 1], [INF, 0], [3.0, 0]])
    vectors = Vectors((column("LAB"), column("E11", flag=True)), values)
    scale = fit_scale(vectors)
    assert scale.lacking == ("LAB",)
    assert scale.groups == ("LAB", "E11", "LAB")
    cells = scale.cells(vectors)
    np.testing.assert_array_equal(cells[:, 2], [1, 1, -1, -1, 1])
    np.testing.assert_array_equal(cells[:, 1], [-1, 1, 1, -1, -1])
    np.testing.assert_array_equal(cells[2:4, 0], 0)
    back = scale.vectors(cells).values
    np.testing.assert_allclose(back[[0, 1, 4]], values[[0, 1, 4]], atol=0.05)
    assert np.isnan(back[2:4, 0]).all()


def test_normal_scores_are_those_of_a_normal_number_and_go_on_beyond() -> None:
    numbers = np.random.default_rng(0).normal(100, 10, 20_000)
    [curve] = fit_scale(Vectors((column("LAB"),), numbers[:, None])).curves
    assert curve is not None
    np.testing.assert_allclose(
        curve.forward(np.array([90.0, 100, 110, 200, 1000])), [-1, 0, 1, 10, 90], rtol=0.05, atol=0.05
    )
    assert curve.backward(np.array([50.0]))[0] == pytest.approx(
        100 + 10 * FURTHEST, rel=0.03
    )  # nothing is made up beyond


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.lists(st.floats(-9, 9), min_size=1, max_size=9))
def test_scores_rise_with_numbers_are_finite_and_nothing_negative_is_made_up(
    known: list[float], asked: list[float]
) -> None:
    [curve] = fit_scale(Vectors((column("LAB"),), np.array(known)[:, None])).curves
    assert curve is not None
    scores = curve.forward(np.sort(np.array(known)))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    made = curve.backward(np.array(asked))
    assert np.isfinite(made).all()
    assert (made >= 0).all()


def test_a_column_that_nobody_has_or_that_is_constant_does_no_harm() -> None:
    vectors = Vectors((column("NOBODY"), column("SAME")), np.array([[NAN, 7.0]] * 12))
    scale = fit_scale(vectors)
    cells = scale.cells(vectors)
    assert np.isfinite(cells).all()
    np.testing.assert_array_equal(scale.vectors(cells).values, vectors.values)


def test_the_label_is_the_last_column() -> None:
    found = with_label(Vectors((column("LAB"),), np.ones((2, 1))), "death", np.array([1.0, 0.0]))
    assert found.columns[-1] == Column("death", "death", "label", True)
    np.testing.assert_array_equal(found.values, [[1, 1], [1, 0]])

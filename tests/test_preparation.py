"""How an encoder's records are prepared: options, keys, mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from encoders import ENCODERS
from encoders.codes import CodeVocabulary
from encoders.notes import Subwords
from encoders.preprocessor import preparation
from encoders.weights import fetch_pretrained, without_pretrained
from fusion import UsageError
from fusion.component import Spec


def test_options_reach_the_preprocessor_that_has_them() -> None:
    found = preparation(ENCODERS["codes"], "codes", Spec("gru"), {"max_events": 9})
    assert (found.modality, found.preprocessor, found.options) == ("codes", CodeVocabulary, {"max_events": 9})
    # `vocabulary` is an option of another notes encoder: it may stand in the configuration, and is not passed on
    mixed = preparation(ENCODERS["notes"], "notes", Spec("pretrained"), {"max_tokens": 9, "vocabulary": 5})
    assert mixed.options == {"max_tokens": 9, "model": "emilyalsentzer/Bio_ClinicalBERT"}


def test_encoders_hyperparameter_reaches_its_preprocessor() -> None:
    found = preparation(ENCODERS["notes"], "notes", Spec("pretrained", {"model": "my/model"}))
    assert (found.preprocessor, found.options) == (Subwords, {"model": "my/model"})


def test_same_preparation_same_key() -> None:
    bag, gru = (preparation(ENCODERS["codes"], "codes", Spec(name), {"max_events": 9}) for name in ("bag", "gru"))
    other = preparation(ENCODERS["codes"], "codes", Spec("bag"), {"max_events": 8})
    assert bag.key == gru.key
    assert bag.key != other.key
    assert bag.key.startswith("codes-")
    graph = preparation(ENCODERS["graph"], "graph", Spec("gcn"))
    assert graph.key != preparation(ENCODERS["codes"], "codes", Spec("bag")).key


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        (Spec("bag"), {"max_event": 9}, "preprocess.codes: unknown preprocessing option 'max_event'; did you mean "
         "'max_events'?"),
        (Spec("bga"), None, "encoders.codes: unknown component 'bga'; did you mean 'bag'?"),
        (Spec("bag", {"slot": 2}), None, "encoders.codes: unknown hyperparameter of bag 'slot'; did you mean 'slots'?"),
        (Spec("bag", {"slots": 1.5}), None, "encoders.codes: bag.slots must be int; got 1.5"),
    ],
)  # fmt: skip
def test_mistakes_in_a_preparation_are_one_line(spec: Spec, options: Any, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        preparation(ENCODERS["codes"], "codes", spec, options)
    assert str(raised.value) == text


def test_option_of_another_type_is_refused() -> None:
    with pytest.raises(UsageError, match=r"preprocess.codes.max_events must be int; got 'many'"):
        preparation(ENCODERS["codes"], "codes", Spec("bag"), {"max_events": "many"})


def test_pretrained_weights_are_fetched_again_after_a_failure() -> None:
    def fail() -> None:
        with without_pretrained():
            assert not fetch_pretrained()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert fetch_pretrained()

"""Spaces: ranges from signatures, narrowed or pinned; every mistake is one line with its path and the nearest name."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from toy_components import TOY_ENCODERS, TOY_FUSIONS, TRAINING, space

from fusion.component import Choice, Float, Int, UsageError
from search.space import NONE, Space

# what may be chosen


def test_ranges_come_from_the_signature() -> None:
    found = space(encoders={"codes": ["recurrent", "bag"]}, fusion=["late", "early"])
    assert found.encoders == {
        "codes": {
            "recurrent": {"layers": Int(1, 3), "dropout": Float(0.0, 0.5), "cell": Choice("gru", "lstm")},
            "bag": {},
        }
    }
    assert found.fusion == {"late": {}, "early": {"layers": Int(1, 4)}}
    assert found.dim == 32


def test_a_range_is_narrowed_pinned_or_opened() -> None:
    settings = {
        "layers": 3,
        "dropout": {"low": 0.01, "high": 0.1, "log": True},
        "cell": ["lstm"],  # one option is no choice
        "bias": [True, False],  # not searched unless the user says so
    }
    assert space(encoders={"codes": {"recurrent": settings}}).encoders["codes"]["recurrent"] == {
        "layers": 3,
        "dropout": Float(0.01, 0.1, True),
        "cell": "lstm",
        "bias": Choice(True, False),
    }


def test_a_choice_that_is_not_searched_by_itself_is_where_the_user_lists_it() -> None:
    class Asked:
        """An encoder with an option that wants a package of its own."""

        def __init__(
            self, preprocessor: Any, dim: int, *, extra: Annotated[str, Choice("no", "yes", searched=False)] = "no"
        ) -> None: ...

    def settings(value: Any) -> Any:
        data = {"encoders": {"codes": {"asked": value}}, "fusion": "late", "dim": 32}
        return Space.from_dict(data, {"codes": {"asked": Asked}}, TOY_FUSIONS, TRAINING).encoders["codes"]["asked"]

    assert settings({}) == {}
    assert settings({"extra": ["no", "yes"]}) == {"extra": Choice("no", "yes")}
    with pytest.raises(UsageError, match=r"unknown value 'yess'; did you mean 'yes'\?"):
        settings({"extra": "yess"})


def test_a_whole_number_is_a_real_number_where_one_is_wanted() -> None:
    found = space(encoders={"codes": {"recurrent": {"dropout": {"low": 0, "high": 1}}}}, training={"lr": 1})
    assert found.encoders["codes"]["recurrent"]["dropout"] == Float(0.0, 1.0)
    assert isinstance(found.training["lr"], float)


def test_equal_bounds_pin() -> None:
    assert space(dim={"low": 16, "high": 16}).dim == 16


def test_width_and_training_settings() -> None:
    found = space(
        dim=[16, 32], training={"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "class_weights": [True, False]}
    )
    assert found.dim == Choice(16, 32)
    assert found.training == {"lr": Float(1e-4, 1e-2, True), "class_weights": Choice(True, False)}


def test_every_fusion_and_width_64_unless_said() -> None:
    found = Space.from_dict({"encoders": {"codes": "bag"}}, TOY_ENCODERS, TOY_FUSIONS, TRAINING)
    assert (set(found.fusion), found.dim, found.training) == ({"late", "early"}, 64, {})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoders": {"note": "bag"}}, "space.encoders: unknown modality 'note'; did you mean 'notes'?"),
        (
            {"encoders": {"codes": "recurent"}},
            "space.encoders.codes: unknown component 'recurent'; did you mean 'recurrent'?",
        ),
        ({"encoders": {"codes": ["bag", "x"]}}, "space.encoders.codes: unknown component 'x'; known: bag, recurrent"),
        (
            {"encoders": {"codes": {"recurrent": {"layer": 2}}}},
            "space.encoders.codes.recurrent: unknown hyperparameter 'layer'; did you mean 'layers'?",
        ),
        (
            {"encoders": {"codes": {"bag": {"layers": 2}}}},
            "space.encoders.codes.bag: unknown hyperparameter 'layers'; known: none",
        ),
        ({"encoders": {"codes": NONE}}, "space.encoders.codes: only 'none' is left; drop the modality instead"),
        (
            {"encoders": {"codes": 3}},
            "space.encoders.codes: expected a name, a list of names or a mapping; got 3",
        ),
        ({"encoders": {"codes": []}}, "space.encoders.codes: expected a name, a list of names or a mapping; got {}"),
        ({"fusion": "earl"}, "space.fusion: unknown component 'earl'; did you mean 'early'?"),
        ({"fusion": ["late", NONE]}, "space.fusion: unknown component 'none'; known: early, late"),
        ({"dim": "wide"}, "space.dim must be int; got 'wide'"),
        ({"dim": 32.5}, "space.dim must be int; got 32.5"),
        ({"dim": True}, "space.dim must be int; got True"),
        ({"dim": []}, "space.dim: a choice needs at least one option; got an empty list"),
        ({"dim": [16, "32"]}, "space.dim must be int; got '32'"),
        ({"dim": {"low": 8}}, "space.dim: a range is written {low, high, log}; got the keys ['low']"),
        (
            {"dim": {"low": 8, "high": 16, "step": 4}},
            "space.dim: a range is written {low, high, log}; got the keys ['high', 'low', 'step']",
        ),
        ({"dim": {"low": 32, "high": 16}}, "space.dim: low (32) must be at most high (16)"),
        (
            {"training": {"lr": {"low": 0, "high": 1, "log": True}}},
            "space.training.lr: low (0.0) must be positive and at most high (1.0)",
        ),
        ({"training": {"lr": "fast"}}, "space.training.lr must be float; got 'fast'"),
        (
            {"training": {"class_weights": {"low": 0, "high": 1}}},
            "space.training.class_weights: a range needs a number; this is bool",
        ),
        (
            {"training": {"learning_rate": 1e-3}},
            "space.training: unknown training setting 'learning_rate'; known: batch_size, class_weights, lr",
        ),
        (
            {"training": {"batchsize": 8}},
            "space.training: unknown training setting 'batchsize'; did you mean 'batch_size'?",
        ),
        (
            {"encoders": {"codes": {"recurrent": {"layers": {"low": 1, "high": 2.5}}}}},
            "space.encoders.codes.recurrent.layers must be int; got 2.5",
        ),
        (
            {"encoders": {"notes": {"pretrained": {"model": 5}}}},
            "space.encoders.notes.pretrained.model must be str; got 5",
        ),
        (
            {"encoders": {"codes": {"recurrent": 3}}},
            "space.encoders.codes.recurrent: expected a mapping of hyperparameters; got 3",
        ),
        (
            {"encoders": {"codes": [{"recurrent": {"layers": 2}}]}},
            "space.encoders.codes: a list holds names; got {'recurrent': {'layers': 2}}",
        ),
        (
            {"training": {"lr": {"low": 1e-4, "high": 1e-2, "log": "yes"}}},
            "space.training.lr.log must be bool; got 'yes'",
        ),
        (
            {"encoders": {"codes": {"recurrent": {"cell": ["gru", "gur"]}}}},
            "space.encoders.codes.recurrent.cell: unknown value 'gur'; did you mean 'gru'?",
        ),
        ({"dim": [16, 16]}, "space.dim: a choice lists each option once; got [16, 16]"),
        ({"encoders": {"codes": ["bag", "bag"]}}, "space.encoders.codes: lists 'bag' twice"),
    ],
)
def test_a_mistake_is_one_line_with_its_path(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        space(**parts)
    assert str(caught.value) == message

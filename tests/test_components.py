"""Components: names, hyperparameters, mistakes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokens import NAN

from fusion import FUSIONS, UsageError
from fusion.component import (
    Architecture,
    Choice,
    Float,
    Hyperparameter,
    Int,
    Spec,
    build,
    find,
    hyperparameters,
    unknown,
)


class Part:
    """A component with a hyperparameter of every kind."""

    def __init__(
        self,
        modalities: list[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 6)] = 2,
        rate: Annotated[float, Float(1e-4, 0.1, log=True)] = 0.01,
        pooling: Annotated[str, Choice("mean", "first")] = "mean",
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        frozen: bool = False,
        model: str = "small",
    ) -> None:
        self.given = (modalities, dim, layers, rate, pooling, heads, frozen, model)


class Plain:
    """A component without hyperparameters."""

    def __init__(self, modalities: list[str], dim: int) -> None: ...


PARTS = {"part": Part, "plain": Plain}


# --- components ---


def test_hyperparameters_are_read_from_the_signature() -> None:
    assert hyperparameters(Part) == {
        "layers": Hyperparameter("layers", int, 2, Int(1, 6)),
        "rate": Hyperparameter("rate", float, 0.01, Float(1e-4, 0.1, log=True)),
        "pooling": Hyperparameter("pooling", str, "mean", Choice("mean", "first")),
        "heads": Hyperparameter("heads", int, 2, Choice(1, 2, 4)),
        "frozen": Hyperparameter("frozen", bool, False, None),
        "model": Hyperparameter("model", str, "small", None),
    }
    assert hyperparameters(Plain) == {}


def test_build_gives_places_and_hyperparameters() -> None:
    made = build(PARTS, Spec("part", {"layers": 3, "rate": 1, "frozen": True}), ["codes"], 8)
    assert made.given == (["codes"], 8, 3, 1, "mean", 2, True, "small")


@pytest.mark.parametrize("value", ["late", {"name": "late"}, Spec("late")], ids=["text", "mapping", "spec"])
def test_spec_is_read_from_every_form(value: Any) -> None:
    assert Spec.parse(value) == Spec("late", {})


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key != "name"), st.integers() | st.booleans()))
@settings(max_examples=25, deadline=None)
def test_spec_survives_its_flat_form(params: dict[str, Any]) -> None:
    spec = Spec("late", params)
    assert Spec.parse(json.loads(json.dumps(spec.to_dict()))) == spec


def test_architecture_survives_json() -> None:
    whole = Architecture({"codes": Spec("gru", {"steps": 8}), "notes": Spec("bag")}, Spec("late", {"dropout": 0.2}), 32)
    assert whole.to_dict() == {
        "encoders": {"codes": {"name": "gru", "steps": 8}, "notes": {"name": "bag"}},
        "fusion": {"name": "late", "dropout": 0.2},
        "dim": 32,
    }
    assert Architecture.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Architecture.from_dict({"encoders": {"codes": "gru"}, "fusion": "late"}) == Architecture(
        {"codes": Spec("gru")}, Spec("late"), 64
    )


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec("prat"), "here: unknown component 'prat'; did you mean 'part'?"),
        (Spec("zzz"), "here: unknown component 'zzz'; known: part, plain"),
        (Spec("part", {"layer": 1}), "here: unknown hyperparameter of part 'layer'; did you mean 'layers'?"),
        (Spec("plain", {"layers": 1}), "here: unknown hyperparameter of plain 'layers'; known: none"),
        (Spec("part", {"layers": 2.0}), "here: part.layers must be int; got 2.0"),
        (Spec("part", {"layers": True}), "here: part.layers must be int; got True"),
        (Spec("part", {"rate": True}), "here: part.rate must be float; got True"),
        (Spec("part", {"rate": "1e-3"}), "here: part.rate must be float; got '1e-3'"),
        (Spec("part", {"rate": None}), "here: part.rate must be float; got None"),
        (Spec("part", {"frozen": 1}), "here: part.frozen must be bool; got 1"),
        (Spec("part", {"model": 3}), "here: part.model must be str; got 3"),
        (Spec("part", {"pooling": "man"}), "here: part.pooling: unknown value 'man'; did you mean 'mean'?"),
    ],
)
def test_mistake_in_a_component_is_one_line(spec: Spec, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        find(PARTS, spec, "here")
    assert str(raised.value) == text


def test_mistakes_without_a_place_name_none() -> None:
    assert str(unknown("thing", "x", [])) == "unknown thing 'x'; known: none"
    with pytest.raises(UsageError, match=r"^part.layers must be int; got 'two'$"):
        find(PARTS, Spec("part", {"layers": "two"}))


def test_whole_numbers_are_real_numbers_too() -> None:
    assert find(PARTS, Spec("part", {"rate": 1})) is Part


def test_component_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        Spec.parse({"layers": 2, "dropout": 0.1})
    assert str(raised.value) == "a component needs a 'name'; got the keys ['dropout', 'layers']"


@pytest.mark.parametrize("value", [None, 5, {"name": 5}, {"name": None}, {"name": "part", 5: 1}], ids=str)
def test_component_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        find(PARTS, Spec.parse(value), "fusion")


SENSELESS: list[tuple[str, dict[str, Any]]] = [
    ("cross_attention", {"heads": 0}),
    ("cross_attention", {"layers": -1}),
    ("cross_attention", {"queries": 0}),
    ("late", {"dropout": 2.0}),
    ("early", {"dropout": NAN}),
]


@pytest.mark.parametrize(("name", "params"), SENSELESS, ids=str)
def test_senseless_value_is_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"fusion: {name}.{next(iter(params))} must be"):
        build(FUSIONS, Spec(name, params), ["codes"], 8, where="fusion")

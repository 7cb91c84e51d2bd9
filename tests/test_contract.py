"""Every catalogued component keeps the contract of the design; a new one is tested by being in its dict."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from toy_contract import (  # noqa: F401 - fixtures
    DIM,
    PATTERNS,
    Case,
    World,
    all_cases,
    each_encoder,
    events,
    language,
    world,
)

from encoders import ENCODERS
from encoders.preprocessor import Preprocessor
from encoders.records import Note, Record
from experiments.data.pack import pack_records
from fusion import FUSIONS, UsageError
from fusion.component import Choice, Genome, Spec, build, hyperparameters

EVERY = {
    f"{kind}.{name}": each for kind, names in {**ENCODERS, "fusion": FUSIONS}.items() for name, each in names.items()
}
each_component = pytest.mark.parametrize("component", EVERY.values(), ids=EVERY)
HELD_OUT = Record(
    events(("HELDOUT//code", 1, 7.5)), (Note("heldoutword heldoutword", 1.0, "heldoutkind"),)
)  # a patient no preprocessor is fitted on


# --- what every component is ---


@each_component
def test_documents_itself(component: type) -> None:
    text = inspect.getdoc(component) or ""
    assert text.split("\n")[0].rstrip().endswith((".", ";")), text.split("\n")[0]
    for section in ("Shape:", "Reference:", *(["Missing:"] if component in FUSIONS.values() else [])):
        assert f"\n{section}\n" in text, f"no {section} in the docstring"


@each_component
def test_signature_is_two_places_and_described_hyperparameters(component: type) -> None:
    places = [p for p in inspect.signature(component).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    wanted = ["modalities", "dim"] if component in FUSIONS.values() else ["preprocessor", "dim"]
    assert [place.name for place in places] == wanted
    for parameter in hyperparameters(component).values():
        assert parameter.default is not inspect.Parameter.empty, f"{parameter.name} has no default"
        plain = parameter.type in (int, float, bool, str) or isinstance(parameter.range, Genome)
        assert plain, f"{parameter.name} has no plain type"


@each_component
def test_default_lies_in_its_range(component: type) -> None:
    for parameter in hyperparameters(component).values():
        limits = parameter.range
        if isinstance(limits, Choice):
            assert parameter.default in limits.options, parameter
        elif limits is not None and not isinstance(limits, Genome):
            assert limits.low <= parameter.default <= limits.high, parameter


@each_component
def test_unknown_hyperparameter_names_the_nearest(component: type) -> None:
    longest = max(hyperparameters(component), key=len)
    with pytest.raises(UsageError) as raised:
        build({"it": component}, Spec("it", {longest + "x": 1}), where="here")
    assert str(raised.value) == f"here: unknown hyperparameter of it '{longest}x'; did you mean '{longest}'?"


# --- preprocessors ---


@each_encoder
def test_preprocessor_follows_the_protocol(world: World, case: Case) -> None:
    preprocessor = world.prepared(case)[0]
    assert isinstance(preprocessor, Preprocessor)
    columns = preprocessor.columns()
    for record, has in zip(world.records, PATTERNS, strict=True):
        encoded = preprocessor.encode(record)
        wanted = {"codes": has[0], "graph": has[0], "notes": has[1], "images": has[2]}[case.modality]
        assert (encoded is not None) is wanted
        if encoded is None:
            continue
        assert encoded.keys() == columns.keys()
        assert len({len(column) for column in encoded.values()}) == 1
        for name, (kind, shape) in columns.items():
            assert encoded[name].dtype == kind
            assert encoded[name].shape[1:] == shape


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in all_cases() if "codes." in name])
def test_preprocessor_of_codes_names_the_codes_it_knows(world: World, case: Case) -> None:
    known = set(world.prepared(case)[0].codes)
    assert {"ICD//I10", "LAB//glucose"} <= known
    assert "HELDOUT//code" not in known


@each_encoder
def test_preprocessor_survives_json(world: World, case: Case) -> None:
    preprocessor = world.prepared(case)[0]
    data = preprocessor.to_dict()
    again = type(preprocessor).from_dict(json.loads(json.dumps(data, allow_nan=False)))
    assert again == preprocessor
    assert again.to_dict() == data
    for record in (*world.records, HELD_OUT):
        first, second = preprocessor.encode(record), again.encode(record)
        assert (first is None) is (second is None)
        for name in first or {}:
            np.testing.assert_array_equal(first[name], second[name])


@each_encoder
def test_preprocessor_learns_from_the_given_records_only(world: World, case: Case) -> None:
    before = world.fit(case, world.records)
    world.fit(case, [*world.records, HELD_OUT])  # what another fit saw must not stay anywhere
    after = world.fit(case, world.records)
    assert after == before
    assert "heldout" not in json.dumps(after.to_dict()).lower()


@each_encoder
def test_training_records_without_the_modality_still_give_an_encoder(world: World, case: Case) -> None:
    preprocessor = world.fit(case, [Record()] * 3)
    packed, index = pack_records(preprocessor, world.records)
    torch.manual_seed(0)
    encoder = build(ENCODERS[case.modality], world.spec(case), preprocessor, DIM).eval()
    assert encoder(preprocessor.collate(packed, index)).values.isfinite().all()

"""Attributions within a modality: they add up in every encoder that has them, and the others say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_contract import DIM, World, all_cases, language, moved, world  # noqa: F401 - fixtures

from experiments.explaining import attribution
from experiments.explaining.attribution import (
    Unattributable,
    attribute,
    gated_logits,
    gates_of,
    integrated,
    is_rough,
)
from experiments.explaining.gates import items_of
from experiments.explaining.tally import LEAST, Attributed, Saliency, Tally, names_of
from fusion import FUSIONS, FusionModel, UsageError

CASES = dict(all_cases())
CANNOT = {
    "codes.descriptions",  # reads each distinct code of the batch once
    "graph.personal",  # a graph a patient, no table of nodes
    "notes.tfidf",  # components instead of words
    "codes.record_text",  # a text that a frozen model reads
    "notes.pretrained-frozen",
    "images.timm-frozen",
    "images.torchvision-frozen",
}


def model_of(world: World, name: str) -> tuple[FusionModel, dict[str, object]]:
    """A network of one encoder and the inputs of all patients who have its modality."""
    case = CASES[name]
    torch.manual_seed(0)
    fusion = FUSIONS["late"]([case.modality], DIM)
    model = moved(FusionModel({case.modality: world.encoder(case)}, fusion, DIM, 1)).eval()
    rows = world.present_rows(case)
    return model, {case.modality: world.inputs(case, rows[:2] if case.modality == "images" else rows)}


@pytest.mark.parametrize("name", CASES)
def test_attributions_add_up_to_what_the_modality_says(world: World, name: str) -> None:
    modality = CASES[name].modality
    model, inputs = model_of(world, name)
    if name in CANNOT:
        with pytest.raises(Unattributable):
            attribute(model, inputs, modality, 0)
        return
    found = attribute(model, inputs, modality, 0)
    mine, gates = inputs[modality], gates_of(inputs[modality])
    with torch.no_grad():
        everyone = torch.arange(len(gates))
        whole, nothing = (gated_logits(model, mine, {}, modality, each, everyone)[:, 0] for each in (gates, 0 * gates))
        assert torch.allclose(whole, model(inputs)[:, 0], atol=1e-5)
    assert found.values.shape == gates.shape
    assert torch.allclose(found.said, whole - nothing, atol=1e-5)
    most = float(found.said.abs().max())
    assert most > 1e-3
    assert torch.allclose(found.values.flatten(1).sum(1), whole - nothing, atol=max(0.1 * most, 0.0101))
    assert torch.allclose(found.missed, found.values.flatten(1).sum(1) - found.said, atol=1e-6)
    assert not is_rough(found.said, found.missed).any()
    assert not found.values[gates == 0].any()  # nothing behind the mask
    items = items_of(mine)
    if items is not None:
        assert items[0].shape == found.values.shape


def test_steps_are_doubled_for_those_whose_parts_do_not_add_up() -> None:
    def logit(gates: torch.Tensor, patients: torch.Tensor) -> torch.Tensor:
        # a line for the first patient; for the second a step that few points see, and for the third none does
        steep = torch.tensor([0.0, 60.0, 3000.0])[patients]
        return gates.sum(1) * (patients == 0) + (steep * (gates.mean(1) - 0.8)).sigmoid() * (patients > 0)

    found = integrated(logit, torch.ones(3, 2), steps=8, most=64)
    assert found.steps[0] == 8
    assert 8 < found.steps[1] <= 64
    assert found.steps[2] == 64
    assert is_rough(found.said, found.missed).tolist() == [False, False, True]
    assert found.said.tolist() == pytest.approx([2.0, 1.0, 1.0], abs=1e-4)
    assert found.values[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert found.values[1].tolist() == pytest.approx([0.5, 0.5], abs=0.03)


def test_captum_that_is_not_installed_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    model, inputs = model_of(world, "codes.bag")
    with pytest.raises(UsageError, match=r"explain needs captum; install it with: pip install 'ehrfusion\[explain\]'"):
        attribution.attribute(model, inputs, "codes", 0)


def test_items_of_fewer_than_ten_patients_are_not_told() -> None:
    tally = Tally()
    items = np.array([[1, 1, 2]] * LEAST)
    tally.add(items, np.ones_like(items, bool), np.tile([0.5, 0.25, -2.0], (LEAST, 1)), range(LEAST))
    tally.add(np.array([[3, 4, 4]]), np.array([[True, True, False]]), np.ones((1, 3)), [0])
    tally.add(np.array([[2, 0, 0]]), np.array([[True, False, False]]), np.array([[9.0, 0, 0]]), [0])
    names = {1: "A", 2: "B", 3: "C"}
    rows, others = tally.table(names)
    assert rows == [Attributed("B", 10, -1.0, 29 / 11, 29 / 38.5), Attributed("A", 10, 0.75, 0.75, 7.5 / 38.5)]
    assert others == 2
    few = Tally()
    few.add(items[:9], np.ones((9, 3), bool), np.ones((9, 3)), range(9))
    few.add(items[:9], np.ones((9, 3), bool), np.ones((9, 3)), range(9))  # the same nine, later
    assert few.table(names) == ([], 2)


def test_maps_of_fewer_than_ten_patients_are_not_shown() -> None:
    saliency, real = Saliency(), np.ones((LEAST - 1, 1), bool)
    saliency.add(real, np.ones((LEAST - 1, 1, 1, 2, 2)), range(LEAST - 1))
    assert saliency.mean() is None
    saliency.add(real[:1], np.full((1, 1, 1, 2, 2), -11.0), [99])
    assert saliency.mean() == pytest.approx(np.full((2, 2), 2.0))


def test_items_are_called_what_the_preprocessor_calls_them(world: World) -> None:
    codes = world.prepared(CASES["codes.bag"])[0]
    assert names_of(codes)[codes.number["ICD//I10"]] == "ICD//I10"
    assert 0 not in names_of(codes)  # any unknown code
    words = world.prepared(CASES["notes.bag"])[0]
    assert names_of(words)[words.number["fever"]] == "fever"
    graph = world.prepared(CASES["graph.ancestors"])[0]
    assert names_of(graph)[graph.number["ICD//E11"]] == "ICD//E11"

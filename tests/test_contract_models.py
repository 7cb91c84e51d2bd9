"""What must hold of whole models of every encoder and every fusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy_contract import (  # noqa: F401 - fixtures
    DIM,
    NOBODY,
    PATTERNS,
    SMALL,
    Case,
    World,
    assert_gradients_reach,
    everything,
    language,
    moved,
    readout,
    world,
)

from encoders import ENCODERS
from encoders.weights import without_pretrained
from experiments.feeding import build_model
from fusion import FUSIONS, FusionModel
from fusion.component import Architecture, Spec

WIDEST = max(len(FUSIONS), *(len(catalogue) for catalogue in ENCODERS.values()))
MIXES = [{modality: list(names)[i % len(names)] for modality, names in ENCODERS.items()} for i in range(WIDEST)]
each_model = pytest.mark.parametrize(  # every fusion and every encoder at least once
    ("fusion", "mix"),
    [
        pytest.param(
            list(FUSIONS)[i % len(FUSIONS)], mix, id=f"{list(FUSIONS)[i % len(FUSIONS)]}-{'-'.join(mix.values())}"
        )
        for i, mix in enumerate(MIXES)
    ],
)


def whole(world: World, fusion: str, mix: dict[str, str], modality_dropout: float = 0.0) -> tuple[FusionModel, Any]:
    """A model of all modalities, and a function from rows to its inputs."""
    cases = {m: Case(m, name, SMALL.get(f"{m}.{name}", {})) for m, name in mix.items()}
    architecture = Architecture({m: world.spec(case) for m, case in cases.items()}, Spec(fusion), DIM)
    torch.manual_seed(0)
    preprocessors = {m: world.prepared(case)[0] for m, case in cases.items()}
    model = build_model(architecture, preprocessors, outputs=3, modality_dropout=modality_dropout).eval()
    return model, lambda rows: {m: world.inputs(case, rows) for m, case in cases.items()}


EVERYONE = range(len(PATTERNS))


@each_model
def test_model_predicts_for_everyone(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    logits = model(inputs(EVERYONE))
    assert logits.shape == (len(PATTERNS), 3)
    assert logits.isfinite().all()
    for row in EVERYONE:
        torch.testing.assert_close(model(inputs([row]))[0], logits[row], rtol=1e-3, atol=1e-4)
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    torch.testing.assert_close(model(inputs(order)), logits[order], rtol=1e-3, atol=1e-4)
    nobody = model(inputs([NOBODY, NOBODY]))
    torch.testing.assert_close(nobody, logits[[NOBODY, NOBODY]], rtol=1e-4, atol=1e-5)


@each_model
def test_model_of_nobody_has_finite_gradients(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    readout(model.train()(inputs([NOBODY, NOBODY]))).backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert model.head.weight.grad is not None
    assert all(gradient.isfinite().all() for gradient in found)


@each_model
def test_gradients_reach_encoders_and_head_of_a_model(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    fused = moved(model).train().fuse(inputs(EVERYONE))
    (readout(model.predict(fused)) + everything(fused)).backward()
    assert_gradients_reach(model.encoders)
    assert_gradients_reach(model.head)


@each_model
def test_model_in_half_precision_and_with_hidden_modalities(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix, modality_dropout=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.train()(inputs(EVERYONE))
    readout(logits.float()).backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@each_model
def test_model_weights_are_saved_and_loaded(world: World, fusion: str, mix: dict[str, str], tmp_path: Path) -> None:
    saved, inputs = whole(world, fusion, mix)
    for parameter in saved.parameters():
        nn.init.normal_(parameter, std=0.1)
    with without_pretrained():
        loaded, _ = whole(world, fusion, mix)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(inputs(EVERYONE)).equal(saved(inputs(EVERYONE)))

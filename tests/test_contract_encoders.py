"""What must hold of every encoder in the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_contract import (  # noqa: F401 - fixtures
    DIM,
    NOBODY,
    PATTERNS,
    Case,
    World,
    all_cases,
    assert_gradients_reach,
    assert_same_gradients,
    corners,
    each_encoder,
    each_junk,
    language,
    moved,
    readout,
    with_junk,
    world,
)

from encoders.weights import without_pretrained
from fusion import Tokens
from fusion.tokens import clean, present


@each_encoder
def test_encoder_gives_tokens(world: World, case: Case) -> None:
    inputs = world.inputs(case)
    tokens = world.encoder(case)(inputs)
    assert isinstance(tokens, Tokens)
    assert tokens.values.shape == (len(PATTERNS), tokens.mask.shape[1], DIM)
    assert tokens.mask.shape[0] == len(PATTERNS)
    assert (tokens.values.dtype, tokens.mask.dtype) == (torch.float32, torch.bool)
    assert tokens.values.isfinite().all()
    assert present(tokens.mask).equal(present(inputs.mask)), "a patient is absent in one and present in the other"


@each_encoder
def test_encoder_of_nobody(world: World, case: Case) -> None:
    tokens = world.encoder(case)(world.inputs(case, [NOBODY, NOBODY]))
    assert tokens.mask.shape[0] == 2
    assert tokens.mask.shape[1] >= 1
    assert not tokens.mask.any()
    assert tokens.values.isfinite().all()


@each_junk
@each_encoder
def test_encoder_ignores_what_is_behind_the_mask(world: World, case: Case, junk: float) -> None:
    encoder, inputs = world.encoder(case), world.inputs(case)
    plain, dirty = encoder(inputs), encoder(with_junk(inputs, junk))
    assert dirty.mask.equal(plain.mask)
    torch.testing.assert_close(clean(dirty).values, clean(plain).values)


@each_junk
@each_encoder
def test_encoder_learns_nothing_from_behind_the_mask(world: World, case: Case, junk: float) -> None:
    encoder, inputs = world.encoder(case), world.inputs(case)
    plain, dirty = (readout(clean(encoder(each)).values) for each in (inputs, with_junk(inputs, junk)))
    assert_same_gradients(encoder, plain, dirty)


@each_encoder
def test_encoder_follows_the_order_of_patients(world: World, case: Case) -> None:
    encoder, order = world.encoder(case), [5, 2, 7, 0, 3, 6, 1, 4]
    straight, mixed = encoder(world.inputs(case)), encoder(world.inputs(case, order))
    assert mixed.mask.equal(straight.mask[order])
    torch.testing.assert_close(clean(mixed).values, clean(straight).values[order], rtol=1e-4, atol=1e-5)


@each_encoder
def test_encoder_of_one_patient_equals_the_row_of_a_batch(world: World, case: Case) -> None:
    encoder, rows = world.encoder(case), world.present_rows(case)
    batch = encoder(world.inputs(case))
    assert len(rows) == 4
    for row in rows:
        alone = encoder(world.inputs(case, [row]))
        torch.testing.assert_close(alone.values[alone.mask], batch.values[row][batch.mask[row]], rtol=1e-4, atol=1e-5)


@each_encoder
def test_encoder_tells_patients_apart(world: World, case: Case) -> None:
    inputs = world.inputs(case, world.present_rows(case))
    tokens = clean(world.encoder(case)(inputs))
    summaries = tokens.values.sum(1) / tokens.mask.sum(1, keepdim=True)
    assert torch.pdist(summaries).min() > 1e-4


@each_encoder
def test_gradients_reach_every_parameter_of_an_encoder(world: World, case: Case) -> None:
    encoder = moved(world.encoder(case)).train()
    readout(clean(encoder(world.inputs(case))).values).backward()
    assert_gradients_reach(encoder)


@each_encoder
def test_encoder_is_saved_and_loaded(world: World, case: Case, tmp_path: Path) -> None:
    saved, inputs = world.encoder(case, seed=1), world.inputs(case)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    with without_pretrained():
        loaded = world.encoder(case, seed=2)
    assert not clean(loaded(inputs)).values.equal(clean(saved(inputs)).values)
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(inputs).values.equal(saved(inputs).values)


@each_encoder
def test_same_seed_same_encoder(world: World, case: Case) -> None:
    first, second, inputs = world.encoder(case, seed=3), world.encoder(case, seed=3), world.inputs(case)
    for name, weight in first.state_dict().items():
        assert weight.equal(second.state_dict()[name]), name
    results = []
    for encoder in (first.train(), second.train()):
        torch.manual_seed(4)  # dropout
        results.append(encoder(inputs).values)
    assert results[0].equal(results[1])


@pytest.mark.parametrize(
    ("case", "params"),
    [
        pytest.param(case, params, id="-".join([name, *(f"{k}={v}" for k, v in params.items())]))
        for name, case in all_cases()
        for params in corners(case.component)
        if not case.params.get("frozen")
    ],
)
def test_corner_of_the_search_space_of_an_encoder(world: World, case: Case, params: dict[str, Any]) -> None:
    encoder = moved(world.encoder(case, **params)).train()
    tokens = encoder(world.inputs(case))
    assert present(tokens.mask).equal(present(world.inputs(case).mask))
    assert tokens.values.shape == (len(PATTERNS), tokens.mask.shape[1], DIM)
    readout(clean(tokens).values).backward()
    assert_gradients_reach(encoder)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in all_cases() if case.params.get("frozen")]
)
def test_frozen_encoder_reads_its_cached_features(world: World, case: Case) -> None:
    encoder, inputs = world.encoder(case).train(), world.inputs(case)
    before = {name: weight.clone() for name, weight in encoder.backbone().state_dict().items()}
    features = encoder.features(inputs)
    assert not features.values.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.backbone().parameters())
    again = encoder.train().features(inputs)
    assert again.values.equal(features.values), "dropout or batch statistics are at work in a frozen backbone"
    for name, weight in encoder.backbone().state_dict().items():
        assert weight.equal(before[name]), f"{name} of a frozen backbone changed"
    encoder.eval()
    torch.testing.assert_close(clean(encoder(features)).values, clean(encoder(inputs)).values)

"""What of an image encoder is trained, chance in training, and more than eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from toy_images import (
    PIXELS,
    batch,
    each_encoder,
    make,
    no_growth_of_chance,  # noqa: F401 - fixtures
)

from encoders.images import ImageTimm, ImageTorchvision
from encoders.images.augment import Augment
from encoders.images.pixels import read_pixels
from encoders.images.stages import stages
from fusion import UsageError

# --- a part of the network is trained ---


@pytest.mark.parametrize(
    ("encoder", "model", "count", "last"),
    [
        (ImageTimm, "resnet18", 5, ["layer4"]),
        (ImageTimm, "test_vit", 7, ["blocks.5", "norm"]),
        (ImageTimm, "test_convnext", 5, ["stages.3", "head"]),
        (ImageTimm, "test_efficientnet", 7, ["conv_head", "bn2"]),
        (ImageTorchvision, "resnet18", 5, ["layer4"]),
        (ImageTorchvision, "squeezenet1_1", 9, ["features.12"]),
        (ImageTorchvision, "shufflenet_v2_x0_5", 5, ["conv5"]),
    ],
)
def test_stages_of_several_families(encoder: Any, model: str, count: int, last: list[str]) -> None:
    network = encoder(PIXELS, 4, model=model).images.network
    found, names = stages(network), {module: name for name, module in network.named_modules()}
    assert len(found) == count
    assert [names[module] for module in found[-1]] == last
    inside = [id(each) for stage in found for module in stage for each in module.parameters()]
    assert len(inside) == len(set(inside)), "a parameter is in two stages"


def trained_and_not(encoder: Any) -> tuple[set[str], set[str]]:
    every = dict(encoder.images.network.named_parameters())
    trained = {name for name, parameter in every.items() if parameter.requires_grad}
    return trained, set(every) - trained


@pytest.mark.parametrize("unfrozen", [1, 2])
def test_only_the_last_stages_are_trained(unfrozen: int) -> None:
    encoder = make("timm", frozen=True, unfrozen=unfrozen, pool="attention").train()
    assert encoder.frozen is False, "features of a network that is trained may not be cached"
    trained, frozen = trained_and_not(encoder)
    wanted = ("layer4.", "layer3.")[:unfrozen]
    assert all(name.startswith(wanted) for name in trained)
    assert not any(name.startswith(wanted) for name in frozen)
    before = {name: each.clone() for name, each in encoder.images.network.state_dict().items()}
    optimizer = torch.optim.SGD((each for each in encoder.parameters() if each.requires_grad), 0.1)
    for _ in range(2):
        encoder(batch([[True, True], [True, False]])).values.square().sum().backward()
        assert all(each.grad is not None for each in encoder.parameters() if each.requires_grad)
        optimizer.step()
    for name, each in encoder.images.network.state_dict().items():
        changed = not torch.equal(before[name], each)
        assert changed is name.startswith(wanted), f"{name} {'changed' if changed else 'stayed'}"


@pytest.mark.parametrize("params", [{}, {"frozen": True, "unfrozen": 1}, {"frozen": True}])
def test_a_batch_of_one_picture_leaves_the_modes_as_they_were(params: dict[str, Any]) -> None:
    encoder = make("timm", **params).train()
    before = {name: module.training for name, module in encoder.named_modules()}
    assert before["images.network.layer1"] is (not params)
    assert before["images.network.layer4"] is (params != {"frozen": True})
    assert encoder(batch([[True], [False]])).values.isfinite().all()
    assert {name: module.training for name, module in encoder.named_modules()} == before
    assert not any(module.training for module in encoder.eval().modules())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"frozen": True, "unfrozen": 9}, "unfrozen must be at most 5, the stages of the network; got 9"),
        ({"frozen": True, "unfrozen": -1}, "unfrozen must be at least 0; got -1"),
        ({"unfrozen": 2}, "unfrozen (2) is the part of a frozen network that is trained; set frozen: true"),
    ],
)
@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_stages_that_are_not_there_are_refused(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        make(name, **params)
    assert str(raised.value) == f"images.{name}: {text}"


@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_heads_in_the_middle_of_a_network_are_left_out() -> None:
    encoder: Any = ImageTorchvision(PIXELS, 4, model="googlenet").train()
    encoder(batch([[True, True]])).values.sum().backward()
    assert all(each.grad is not None for each in encoder.parameters() if each.requires_grad)


# --- chance in training ---


def test_chance_is_for_training_only() -> None:
    pixels = batch([[True]] * 2).pixels[:, 0]
    assert Augment(0.0).train()(pixels) is pixels
    assert Augment(1.0).eval()(pixels) is pixels
    assert not torch.equal(Augment(0.2).train()(pixels), pixels.float())


def test_without_luck_either_way_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.full(shape, 0.5))
    pixels = batch([[True]] * 2).pixels[:, 0]
    torch.testing.assert_close(Augment(1.0)(pixels), pixels.float(), rtol=1e-4, atol=1e-2)


def test_shift_and_light_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = torch.full((1, 10), 0.5)
    luck[0, 2], luck[0, 4] = 1.0, 0.0  # as far to the left and as dark as can be
    monkeypatch.setattr(torch, "rand", lambda *_: luck)
    pixels = torch.zeros(1, 1, 10, 10, dtype=torch.uint8)
    pixels[0, 0, 4, 5] = 200
    found = Augment(1.0)(pixels)
    assert found[0, 0, 4, 4].item() == pytest.approx(140, abs=0.1)  # a tenth of the side; 0.7 of the light
    assert found.sum().item() == pytest.approx(140, abs=0.5)


def test_a_rectangle_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = torch.full((1, 10), 0.5)
    luck[0, 6], luck[0, 7] = 0.0, 1.0
    monkeypatch.setattr(torch, "rand", lambda *_: luck)
    found = Augment(1.0)(torch.full((1, 1, 20, 20), 100, dtype=torch.uint8))[0, 0]
    assert (found < 1).sum() == 36  # 0.3 of 20 a side
    assert (found[7:13, 7:13] < 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_each_picture_is_changed_its_own_way_but_never_mirrored(seed: int, strength: float) -> None:
    pixels = torch.zeros(6, 1, 32, 32, dtype=torch.uint8)
    pixels[..., :16] = 220
    torch.manual_seed(seed)
    found = Augment(strength)(pixels)
    torch.manual_seed(seed)
    assert torch.equal(found, Augment(strength)(pixels)), "same seed, same pictures"
    assert found.isfinite().all()
    assert 0 <= found.min() <= found.max() <= 255
    assert (found[..., :16].mean((1, 2, 3)) > found[..., 16:].mean((1, 2, 3))).all(), "left became right"
    assert len({tuple(each.flatten().tolist()) for each in found}) == 6


@each_encoder
def test_encoders_change_pictures_in_training_only(name: str) -> None:
    plain, encoder = make(name, dropout=0.0), make(name, dropout=0.0, augment=1.0)
    inputs = batch([[True, True], [True, False]])
    assert torch.equal(encoder.eval()(inputs).values, plain.eval()(inputs).values)
    torch.manual_seed(3)
    first = encoder.train()(inputs).values
    assert not torch.allclose(first, plain.train()(inputs).values, atol=1e-3)
    if name != "conv":
        frozen = make(name, dropout=0.0, augment=1.0, frozen=True).train()
        assert torch.equal(frozen(inputs).values, frozen(frozen.features(inputs)).values)


# --- more than eight bits ---


def test_sixteen_bit_tiff(tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    Pillow.fromarray(np.array([[1000, 2000], [3000, 5000]], np.uint16)).save(path)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 63], [127, 255]]]
    assert read_pixels(path, 2, 3).tolist() == [[[0, 63], [127, 255]]] * 3

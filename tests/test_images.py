"""Images: views and times, bags of instances, partly frozen networks, chance in training, cached features, 16 bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor, nn

from encoders.images import ImageConv, ImageInputs, ImagePixels, ImageTimm, ImageTorchvision, features
from encoders.images.augment import Augment
from encoders.images.instances import GatedAttentionPool
from encoders.images.pixels import read_pixels
from encoders.images.stages import stages
from encoders.records import Image, Knowledge, Record
from fusion import Tokens, UsageError

NOTHING = Knowledge()
PIXELS = ImagePixels(0.4, 0.2, 32, views=("ap", "lateral"))
TINY: dict[str, tuple[Any, dict[str, Any]]] = {
    "conv": (ImageConv, {"width": 8, "stages": 2}),
    "timm": (ImageTimm, {"model": "test_resnet"}),
    "torchvision": (ImageTorchvision, {"model": "shufflenet_v2_x0_5"}),
}
each_encoder = pytest.mark.parametrize("name", TINY)


def make(name: str, **params: Any) -> Any:
    torch.manual_seed(0)
    component, small = TINY[name]
    return component(PIXELS, 8, **{**small, **params})


def batch(mask: list[list[bool]], days: float = 1.0, view: int = 0, size: int = 32) -> ImageInputs:
    real = torch.tensor(mask)
    pixels = torch.randint(0, 256, (*real.shape, 1, size, size), generator=torch.Generator().manual_seed(1))
    pixels = pixels.to(torch.uint8) * real[..., None, None, None]
    return ImageInputs(pixels, torch.full(real.shape, days), torch.full(real.shape, view), real)


# --- when an image was made, and from where ---


def saved(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Pillow.fromarray(np.full((2, 2), 100, np.uint8)).save(path)
    return paths


def test_views_of_used_training_images_are_numbered(tmp_path: Path) -> None:
    paths, names = saved(tmp_path, 5), ["too old", "PA", " Lateral", "pa ", ""]
    record = Record(images=tuple(Image(path, 1.0, name) for path, name in zip(paths, names, strict=True)))
    fitted = ImagePixels.fit([record], NOTHING, size=2, max_images=4)
    assert fitted.views == ("lateral", "pa")
    unseen = Record(images=tuple(Image(paths[0], 1.0, name) for name in ("LATERAL", "Pa", "too old", "")))
    encoded = fitted.encode(unseen)
    assert encoded is not None
    assert encoded["views"].tolist() == [1, 2, 0, 0]


@each_encoder
def test_time_and_view_reach_the_tokens(name: str) -> None:
    encoder, mask = make(name).eval(), [[True, True], [True, False]]
    before = encoder(batch(mask)).values
    assert not torch.allclose(before, encoder(batch(mask, days=400.0)).values)
    assert torch.equal(before, encoder(batch(mask, view=2)).values), "views start without a say"
    embedding = next(each for each in encoder.modules() if isinstance(each, nn.Embedding) and len(each.weight) == 3)
    nn.init.eye_(embedding.weight)
    moved = encoder(batch(mask, view=2)).values - encoder(batch(mask)).values
    expected = torch.tensor([-1.0, 0, 1, 0, 0, 0, 0, 0])  # the embedding of view 2 in the place of view 0
    torch.testing.assert_close(moved[batch(mask).mask.repeat_interleave(moved.shape[1] // 2, 1)][0], expected)


# --- bags of images ---


def by_hand() -> GatedAttentionPool:
    pool = GatedAttentionPool(2)
    with torch.no_grad():
        pool.content.weight.copy_(torch.eye(2))
        pool.gate.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        pool.content.bias.zero_()
        pool.gate.bias.zero_()
        pool.score.weight.copy_(torch.tensor([[2.0, 1.0]]))
    return pool


def test_gated_attention_by_hand() -> None:
    values = torch.tensor([[[1.0, 3.0], [-1.0, 0.5], [math.nan, math.inf]]])
    mask = torch.tensor([[True, True, False]])

    def score(h: list[float]) -> float:
        return 2 * math.tanh(h[0]) / (1 + math.exp(-h[1])) + math.tanh(h[1]) / 2

    one, other = math.exp(score([1.0, 3.0])), math.exp(score([-1.0, 0.5]))
    share = one / (one + other)
    assert by_hand().weights(values, mask)[0].tolist() == pytest.approx([share, 1 - share, 0.0], rel=1e-5)
    expected = [share - (1 - share), 3 * share + 0.5 * (1 - share)]
    assert by_hand()(values, mask)[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert by_hand()(values, torch.zeros_like(mask)).tolist() == [[0.0, 0.0]]


@each_encoder
def test_a_bag_is_one_token_in_any_order(name: str) -> None:
    encoder = make(name, pool="attention").eval()
    inputs = batch([[True, True, True], [True, False, False], [False, False, False]])
    found = encoder(inputs)
    assert found.values.shape == (3, 1, 8)
    assert found.mask.tolist() == [[True], [True], [False]]
    turned = ImageInputs(*(part[:, [2, 0, 1]] for part in inputs))
    torch.testing.assert_close(encoder(turned).values[0], found.values[0], rtol=1e-4, atol=1e-5)


@each_encoder
def test_nothing_behind_the_mask_counts_in_a_bag(name: str) -> None:
    encoder = make(name, pool="attention").eval()
    inputs = batch([[True, True], [True, False]])
    behind = ~inputs.mask
    dirty = ImageInputs(
        inputs.pixels.masked_fill(behind[..., None, None, None], 255),
        inputs.days.masked_fill(behind, math.nan),
        inputs.views.masked_fill(behind, 2),
        inputs.mask,
    )
    torch.testing.assert_close(encoder(dirty).values, encoder(inputs).values)
    alone = encoder(ImageInputs(*(part[1:, :1] for part in inputs)))
    torch.testing.assert_close(alone.values[0], encoder(inputs).values[1], rtol=1e-4, atol=1e-5)


def bags(count: int, seed: int) -> tuple[ImageInputs, Tensor, Tensor]:
    """Six dark pictures a patient; in every second patient one of them, anywhere, has a bright square."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 60, (count, 6, 1, 16, 16), generator=generator).to(torch.uint8)
    place = torch.randint(6, (count,), generator=generator)
    pixels[torch.arange(0, count, 2), place[::2], :, 5:11, 5:11] = 255
    sick = (torch.arange(count) % 2 == 0).float()
    zeros = torch.zeros(count, 6)
    return ImageInputs(pixels, zeros, zeros.long(), torch.ones(count, 6, dtype=torch.bool)), sick, place


def test_the_telling_image_of_a_bag_is_found() -> None:
    torch.manual_seed(0)
    encoder: Any = ImageConv(ImagePixels(0.12, 0.07, 16), 8, width=8, stages=2, grid=1, dropout=0.0, pool="attention")
    head = nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 5e-3)
    inputs, sick, _ = bags(256, 0)
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(head(encoder(inputs).values).flatten(), sick)
        loss.backward()
        optimizer.step()
    inputs, sick, place = bags(200, 1)
    seen: list[Tensor] = []
    pool = encoder.instances.pool
    pool.register_forward_hook(lambda module, given, _: seen.append(module.weights(*given)))
    with torch.no_grad():
        said = head(encoder.eval()(inputs).values).flatten() > 0
    assert (said == sick.bool()).float().mean() > 0.95
    assert (seen[0].argmax(1) == place)[::2].float().mean() > 0.95, "attention is not on the telling image"


# --- features that are cached ---


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1e5, width=32, allow_subnormal=False), min_size=1, max_size=4),
    st.integers(0, 2**24 - 1),
)
def test_days_and_views_survive_the_cache_whole(days: list[float], view: int) -> None:
    mask = torch.ones(1, len(days), dtype=torch.bool)
    views = torch.full(mask.shape, view)
    inputs = ImageInputs(torch.zeros(0), torch.tensor([days]), views, mask)
    cached = features.join(Tokens(torch.ones(*mask.shape, 5), mask), inputs)
    again = features.split(Tokens(cached.values.bfloat16().float(), mask))
    kept = torch.where(inputs.days < 1e-30, torch.zeros(()), inputs.days)  # so small a part has no bits left
    torch.testing.assert_close(again.days, kept, rtol=0, atol=1e-29)
    assert torch.equal(again.views, views)
    assert again.tokens.values.shape == (1, len(days), 5)


@pytest.mark.parametrize("pool", ["tokens", "attention"])
@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_cached_features_keep_time_and_view(name: str, pool: str) -> None:
    encoder = make(name, frozen=True, pool=pool).eval()
    nn.init.normal_(encoder.images.instances.view.weight)
    inputs = batch([[True, True], [True, False], [False, False]], days=0.37, view=1)
    cached = encoder.features(inputs)
    direct = encoder(inputs)
    rounded = encoder(Tokens(cached.values.bfloat16().float(), cached.mask))
    assert torch.equal(rounded.mask, direct.mask)
    torch.testing.assert_close(rounded.values[direct.mask], direct.values[direct.mask], rtol=0.05, atol=0.05)
    for other in (inputs._replace(views=inputs.views + 1), inputs._replace(days=inputs.days + 300)):
        moved = encoder(encoder.features(other)).values - direct.values
        assert moved[direct.mask].abs().max() > 0.05


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


@pytest.fixture(autouse=True)
def no_growth_of_chance() -> Iterator[None]:
    """Leave torch's generator as it was for other tests."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)

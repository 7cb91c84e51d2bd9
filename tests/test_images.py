"""Images: views and times, bags of instances, cached features."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor, nn
from toy_images import (
    batch,
    each_encoder,
    make,
    no_growth_of_chance,  # noqa: F401 - fixtures
)

from encoders.images import ImageConv, ImageInputs, ImagePixels, features
from encoders.images.instances import GatedAttentionPool
from encoders.records import Image, Knowledge, Record
from fusion import Tokens

NOTHING = Knowledge()


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

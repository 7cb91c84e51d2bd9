"""Encoders of images: what the network sees and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toy_inputs import heard_by

from encoders.images import ImageConv, ImageInputs, ImagePixels, ImageTimm, ImageTorchvision
from encoders.images.backbone import standard
from encoders.images.batch import encode_real
from fusion import UsageError


def image_inputs(mask: list[list[bool]], size: int = 16, channels: int = 1) -> ImageInputs:
    real = torch.tensor(mask)
    pixels = torch.arange(real.numel()).reshape(*real.shape, 1, 1, 1).expand(*real.shape, channels, size, size)
    return ImageInputs(pixels.to(torch.uint8), torch.zeros(real.shape), torch.zeros(real.shape, dtype=torch.long), real)


def test_network_sees_real_images_only() -> None:
    seen: list[list[int]] = []

    def network(pixels: Tensor) -> Tensor:
        seen.append(pixels[:, 0, 0, 0].tolist())
        first = pixels[:, :1, 0, 0].float()
        return torch.stack([first, first + 0.5], dim=1)  # two tokens an image

    found = encode_real(image_inputs([[True, False], [True, True]]), network)
    assert seen == [[0, 2, 3]]
    assert found.values[..., 0].tolist() == [[0.0, 0.5, 0.0, 0.0], [2.0, 2.5, 3.0, 3.5]]
    assert found.mask.tolist() == [[True, True, False, False], [True] * 4]


def test_grid_gives_a_token_a_place() -> None:
    encoder = ImageConv(ImagePixels(0.5, 0.25, 16), 4, width=8, stages=2, grid=2).eval()
    assert encoder(image_inputs([[True, True]])).values.shape == (1, 8, 4)


PIXELS = ImagePixels(0.4, 0.2, 32)


def test_scale_of_pixels_is_the_networks_own_where_pretrained() -> None:
    colour = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    mean, spread = standard(PIXELS, True, colour)
    assert (mean.tolist(), spread.tolist()) == (pytest.approx(list(colour[0])), pytest.approx(list(colour[1])))
    mean, spread = standard(PIXELS, False, colour)
    assert (mean.tolist(), spread.tolist()) == (pytest.approx([0.4] * 3), pytest.approx([0.2] * 3))


def test_grey_picture_is_shown_to_a_colour_network_three_times() -> None:
    encoder = ImageTimm(PIXELS, 4, model="test_resnet").eval()
    inputs = image_inputs([[True]], 32)
    heard = heard_by(encoder.images.network, lambda: encoder(inputs._replace(pixels=inputs.pixels + 51)))
    assert heard.shape == (1, 3, 32, 32)
    torch.testing.assert_close(heard, torch.full_like(heard, (0.2 - 0.4) / 0.2))


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_timm_models_of_several_families(model: str) -> None:
    encoder = ImageTimm(PIXELS, 4, model=model).eval()
    assert encoder(image_inputs([[True, False], [True, True]], 32)).values.shape == (2, 2, 4)


@pytest.mark.parametrize("model", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_torchvision_models_of_several_families(model: str) -> None:
    encoder = ImageTorchvision(PIXELS, 4, model=model).eval()
    assert encoder(image_inputs([[True, False], [True, True]], 32)).values.shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (ImageTimm, "images.timm: unknown timm model 'resnet81'; did you mean 'resnet18'?"),
        (ImageTorchvision, "images.torchvision: unknown torchvision model 'resnet81'; did you mean 'resnet18'?"),
    ],
)
def test_unknown_image_model_names_the_nearest(component: Any, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        component(PIXELS, 4, model="resnet81")
    assert str(raised.value) == text


def test_picture_larger_than_a_model_of_fixed_size() -> None:
    encoder = ImageTimm(ImagePixels(0.5, 0.25, 240), 4, model="vit_tiny_patch16_224").eval()
    assert encoder(image_inputs([[True]], 240)).values.shape == (1, 1, 4)


def test_batch_with_one_image_can_be_trained_on() -> None:
    encoder = ImageTimm(PIXELS, 4, model="test_resnet").train()
    assert encoder(image_inputs([[True], [False]], 32)).values.isfinite().all()

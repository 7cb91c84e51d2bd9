"""Small pictures and encoders of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from encoders.images import ImageConv, ImageInputs, ImagePixels, ImageTimm, ImageTorchvision

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


@pytest.fixture(autouse=True)
def no_growth_of_chance() -> Iterator[None]:
    """Leave torch's generator as it was for other tests."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)

"""What timm and torchvision encoders share: a backbone that gives one vector an image, frozen or fine-tuned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from encoders.images.batch import encode_real, scaled
from encoders.images.pixels import ImageInputs, ImagePixels
from fusion.tokens import Tokens

IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A network from standardised pictures to one vector each, and a linear layer to the common width.

    Frozen, it stays in evaluation mode and its features can be computed once.

    Shape:
        ImageInputs (B, K) or cached features Tokens (B, K, F) -> Tokens (B, K, D).
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        network: nn.Module,
        width: int,
        dim: int,
        *,
        standard: tuple[Tensor, Tensor],
        size: int,
        frozen: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.network, self.frozen, self.size = network, frozen, size
        self.register_buffer("mean", standard[0].view(-1, 1, 1))
        self.register_buffer("spread", standard[1].view(-1, 1, 1))
        network.requires_grad_(not frozen)
        self.adapt = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim))

    def features(self, inputs: ImageInputs) -> Tokens:
        """Return one vector an image, without gradients. Shape: (B, K) -> Tokens (B, K, F)."""
        self.network.eval()
        with torch.no_grad():
            return encode_real(inputs, self._vectors)

    def forward(self, inputs: ImageInputs | Tokens) -> Tokens:
        """Encode each patient's images, or adapt features computed before."""
        if not isinstance(inputs, Tokens):
            inputs = self.features(inputs) if self.frozen else encode_real(inputs, self._vectors)
        return Tokens(self.adapt(inputs.values), inputs.mask)

    def _vectors(self, pixels: Tensor) -> Tensor:
        if pixels.shape[1] < len(self.mean):
            pixels = pixels.expand(-1, len(self.mean), -1, -1)  # grey pictures for a colour network
        picture = scaled(pixels, self.mean, self.spread)
        if picture.shape[-1] != self.size:
            picture = nn.functional.interpolate(picture, size=(self.size, self.size), mode="bilinear", antialias=True)
        alone = self.network.training and len(picture) == 1
        if alone:
            self.network.eval()  # batch norm has no variance of one picture: it takes its running one
        found = self.network(picture)
        if alone:
            self.network.train()
        if not isinstance(found, Tensor):
            found = found.logits  # inception's answer in training carries an auxiliary head's
        return found.flatten(1).unsqueeze(1)


def standard(
    preprocessor: ImagePixels, pretrained: bool, colour: tuple[tuple[float, ...], tuple[float, ...]]
) -> tuple[Tensor, Tensor]:
    """Return mean and spread: the pretrained network's own, or those of the training images."""
    if pretrained:
        return torch.tensor(colour[0]), torch.tensor(colour[1])
    return torch.full((3,), preprocessor.mean), torch.full((3,), preprocessor.spread)


def width_of(network: Callable[[Tensor], Tensor], size: int) -> int:
    """Return how many features a network gives for one picture."""
    with torch.no_grad():
        return network(torch.zeros(1, 3, size, size)).flatten(1).shape[1]


__all__ = ["IMAGENET_MEAN", "IMAGENET_SPREAD", "Backbone", "standard", "width_of"]

"""What timm and torchvision encoders share: a backbone that gives one vector an image, frozen or fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from encoders.images import features
from encoders.images.augment import Augment
from encoders.images.batch import encode_real, scaled
from encoders.images.instances import Instances
from encoders.images.pixels import ImageInputs, ImagePixels
from fusion.tokens import Tokens

IMAGENET_MEAN, IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A network from standardised pictures to one vector each, and a linear layer to the common width.

    Only the modules in `trained` are trained, all where it is None. What is frozen stays in evaluation mode, so that
    its batch statistics do not drift; of a network that is frozen as a whole features can be computed once.

    Shape:
        ImageInputs (B, K) or cached features Tokens (B, K, F + 6) -> Tokens (B, K, D), pooled (B, 1, D).
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
        trained: Sequence[nn.Module] | None,
        dropout: float,
        instances: Instances,
        augment: Augment,
    ) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.trained = None if trained is None else list(trained)  # a list, for they are part of the network already
        self.register_buffer("mean", standard[0].view(-1, 1, 1))
        self.register_buffer("spread", standard[1].view(-1, 1, 1))
        self.adapt = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim))
        self.instances, self.augment = instances, augment
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether nothing of the network is trained."""
        return self.trained is not None and not self.trained

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but the frozen parts of the network."""
        super().train(mode)
        if self.trained is not None:
            self.network.eval()
            for module in self.trained:
                module.train(mode)
        return self

    def features(self, inputs: ImageInputs) -> Tokens:
        """Return vectors, days and views of images, without gradients. Shape: (B, K) -> Tokens (B, K, F + 6)."""
        with torch.no_grad():
            return features.join(encode_real(inputs, self._vectors), inputs)

    def forward(self, inputs: ImageInputs | Tokens) -> Tokens:
        """Encode each patient's images, or adapt features computed before."""
        if isinstance(inputs, Tokens) or self.frozen:
            found, days, views = features.split(inputs if isinstance(inputs, Tokens) else self.features(inputs))
        else:
            found = encode_real(inputs, lambda pixels: self._vectors(self.augment(pixels)))
            days, views = inputs.days, inputs.views
        tokens: Tokens = self.instances(Tokens(self.adapt(found.values), found.mask), days, views)
        return tokens

    def _vectors(self, pixels: Tensor) -> Tensor:
        if pixels.shape[1] < len(self.mean):
            pixels = pixels.expand(-1, len(self.mean), -1, -1)  # grey pictures for a colour network
        picture = scaled(pixels, self.mean, self.spread)
        if picture.shape[-1] != self.size:
            picture = nn.functional.interpolate(picture, size=(self.size, self.size), mode="bilinear", antialias=True)
        if not (self.training and len(picture) == 1):
            return self._pooled(picture)
        self.eval()  # batch norm has no variance of one picture: it takes its running one
        try:
            return self._pooled(picture)
        finally:
            self.train()

    def _pooled(self, picture: Tensor) -> Tensor:
        found: Tensor = self.network(picture)
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

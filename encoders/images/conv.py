"""A small convolutional network trained from scratch."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from encoders.images.augment import Augment
from encoders.images.batch import encode_real, scaled
from encoders.images.instances import Instances
from encoders.images.pixels import ImageInputs, ImagePixels
from fusion.component import Choice, Float, Int
from fusion.tokens import Tokens


class _Stage(nn.Module):
    """Halve the picture, then one residual convolution. Shape: (N, I, H, W) -> (N, O, H / 2, W / 2)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inner, outer, 3, stride=2, padding=1)
        self.same = nn.Conv2d(outer, outer, 3, padding=1)
        # group norm, because batch norm would make a patient's prediction depend on the batch
        self.norm_down, self.norm_same = nn.GroupNorm(4, outer), nn.GroupNorm(4, outer)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.norm_down(self.down(x)))
        return x + functional.gelu(self.norm_same(self.same(x)))


class ImageConv(nn.Module):
    """Residual stages that halve the picture; its last grid, averaged to `grid` x `grid`, gives the tokens.

    With `pool` "attention" one token a patient is made of the places of all images, by gated attention. `augment` is
    how strongly pictures are changed by chance in training.

    Shape:
        ImageInputs (B, K) -> Tokens (B, K * grid^2, D), pooled (B, 1, D).

    Reference:
        He et al., Deep Residual Learning for Image Recognition, 2016 (the residual stage, here with group norm); Ilse,
        Tomczak, Welling, Attention-based Deep Multiple Instance Learning, 2018 (the pooling).
    """

    preprocessor: ClassVar[type] = ImagePixels

    def __init__(
        self,
        preprocessor: ImagePixels,
        dim: int,
        *,
        width: Annotated[int, Choice(8, 16, 32)] = 16,
        stages: Annotated[int, Int(2, 4)] = 3,
        grid: Annotated[int, Choice(1, 2)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        pool: Annotated[str, Choice("tokens", "attention")] = "tokens",
        augment: Annotated[float, Float(0.0, 1.0)] = 0.0,
    ) -> None:
        super().__init__()
        self.mean, self.spread, self.grid = preprocessor.mean, preprocessor.spread, grid
        widths = [preprocessor.channels, *(width * 2**i for i in range(stages))]
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in pairwise(widths)))
        self.place = nn.Embedding(grid * grid, widths[-1])
        self.adapt = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Dropout(dropout), nn.Linear(widths[-1], dim))
        self.instances, self.augment = Instances(dim, len(preprocessor.views), pool), Augment(augment)

    def forward(self, inputs: ImageInputs) -> Tokens:
        """Encode each patient's images."""
        values, mask = encode_real(inputs, self._tokens)
        found: Tokens = self.instances(Tokens(self.adapt(values), mask), inputs.days, inputs.views)
        return found

    def _tokens(self, pixels: Tensor) -> Tensor:
        picture = scaled(self.augment(pixels), self.mean, self.spread)
        found = functional.adaptive_avg_pool2d(self.stages(picture), self.grid)
        return found.flatten(2).transpose(1, 2) + self.place.weight

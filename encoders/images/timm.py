"""Any image model of timm, pretrained or not, frozen or fine-tuned."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from torch import nn

from encoders.images.backbone import Backbone, standard
from encoders.images.pixels import ImageInputs, ImagePixels
from encoders.weights import fetch_pretrained
from fusion.component import Float, UsageError, unknown
from fusion.tokens import Tokens


class ImageTimm(nn.Module):
    """The pooled features of a timm model and a linear layer.

    Shape:
        ImageInputs (B, K) or cached features Tokens (B, K, F) -> Tokens (B, K, D).

    Raises:
        UsageError: timm has no such model, or its weights cannot be loaded.

    Reference:
        Wightman, PyTorch Image Models, 2019.
    """

    preprocessor: ClassVar[type] = ImagePixels

    def __init__(
        self,
        preprocessor: ImagePixels,
        dim: int,
        *,
        model: str = "resnet18",
        pretrained: bool = False,
        frozen: bool = False,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        network = _create(model, pretrained)
        config = network.pretrained_cfg
        size = config["input_size"][-1] if config.get("fixed_input_size") else preprocessor.size
        colour = (tuple(config["mean"]), tuple(config["std"]))
        self.images = Backbone(
            network,
            network.num_features if not hasattr(network, "head_hidden_size") else network.head_hidden_size,
            dim,
            standard=standard(preprocessor, pretrained, colour),
            size=size,
            frozen=frozen,
            dropout=dropout,
        )

    def backbone(self) -> nn.Module:
        """Return the network whose weights a frozen encoder's cache is keyed by."""
        return self.images.network

    def features(self, inputs: ImageInputs) -> Tokens:
        """Return one vector an image, without gradients. Shape: (B, K) -> Tokens (B, K, F)."""
        return self.images.features(inputs)

    def forward(self, inputs: ImageInputs | Tokens) -> Tokens:
        """Encode each patient's images, or adapt features computed before."""
        found: Tokens = self.images(inputs)
        return found


def _create(model: str, pretrained: bool) -> Any:
    import timm

    if not timm.is_model(model):
        raise unknown("timm model", model, timm.list_models(), "images.timm")
    try:
        return timm.create_model(model, pretrained=pretrained and fetch_pretrained(), num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"images.timm: cannot load the weights of '{model}': {why}; use pretrained: false without a network"
        ) from None

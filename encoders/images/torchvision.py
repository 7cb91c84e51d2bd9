"""Any classification model of torchvision, pretrained or not, frozen or fine-tuned."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from torch import nn

from encoders.images.backbone import IMAGENET_MEAN, IMAGENET_SPREAD, Backbone, standard, width_of
from encoders.images.pixels import ImageInputs, ImagePixels
from encoders.weights import fetch_pretrained
from fusion.component import Float, UsageError, unknown
from fusion.tokens import Tokens

_HEADS = ("fc", "classifier", "head", "heads")


class ImageTorchvision(nn.Module):
    """What a torchvision model gives before its classifier, and a linear layer.

    Shape:
        ImageInputs (B, K) or cached features Tokens (B, K, F) -> Tokens (B, K, D).

    Raises:
        UsageError: torchvision has no such model, or its weights cannot be loaded.

    Reference:
        TorchVision maintainers and contributors, TorchVision: PyTorch's Computer Vision library, 2016.
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
        size = int(getattr(network, "image_size", preprocessor.size))
        self.images = Backbone(
            network,
            width_of(network.eval(), size),
            dim,
            standard=standard(preprocessor, pretrained, (IMAGENET_MEAN, IMAGENET_SPREAD)),
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
    from torchvision import models

    if model not in (known := models.list_models(module=models)):
        raise unknown("torchvision model", model, known, "images.torchvision")
    try:
        network = models.get_model(model, weights="DEFAULT" if pretrained and fetch_pretrained() else None)
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"images.torchvision: cannot load the weights of '{model}': {why}; use pretrained: false"
        ) from None
    head = next((name for name in _HEADS if hasattr(network, name)), None)
    if head is None:
        raise UsageError(f"images.torchvision: do not know where the classifier of '{model}' is; choose another model")
    setattr(network, head, nn.Identity())
    return network

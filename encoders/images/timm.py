"""Any image model of timm, pretrained or not, frozen or fine-tuned."""

from __future__ import annotations

from pickle import UnpicklingError  # what torch raises where a file holds more than weights
from typing import Annotated, Any, ClassVar

from torch import nn

from encoders.images.augment import Augment
from encoders.images.backbone import Backbone, standard
from encoders.images.instances import Instances
from encoders.images.pixels import ImageInputs, ImagePixels
from encoders.images.stages import trained_stages
from encoders.weights import fetch_pretrained, weights_only
from fusion.component import Choice, Float, UsageError, unknown
from fusion.tokens import Tokens


class ImageTimm(nn.Module):
    """The pooled features of a timm model and a linear layer.

    With `frozen` its features are computed once; `unfrozen` of its last stages are trained all the same, and then
    nothing is cached. With `pool` "attention" one token a patient is made of all images, by gated attention. `augment`
    is how strongly pictures are changed by chance in training; it has no effect on a wholly frozen network.

    Shape:
        ImageInputs (B, K) or cached features Tokens (B, K, F + 6) -> Tokens (B, K, D), pooled (B, 1, D).

    Raises:
        UsageError: timm has no such model, its weights cannot be loaded, or it has not so many stages.

    Reference:
        Wightman, PyTorch Image Models, 2019; Ilse, Tomczak, Welling, Attention-based Deep Multiple Instance
        Learning, 2018 (the pooling).
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
        unfrozen: int = 0,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        pool: Annotated[str, Choice("tokens", "attention")] = "tokens",
        augment: Annotated[float, Float(0.0, 1.0)] = 0.0,
    ) -> None:
        super().__init__()
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
            trained=trained_stages(network, frozen, unfrozen, "images.timm"),
            dropout=dropout,
            instances=Instances(dim, len(preprocessor.views), pool),
            augment=Augment(augment),
        )
        self.frozen = self.images.frozen

    def backbone(self) -> nn.Module:
        """Return the network whose weights a frozen encoder's cache is keyed by."""
        return self.images.network

    def features(self, inputs: ImageInputs) -> Tokens:
        """Return vectors, days and views of images, without gradients. Shape: (B, K) -> Tokens (B, K, F + 6)."""
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
        with weights_only():
            return timm.create_model(model, pretrained=pretrained and fetch_pretrained(), num_classes=0)
    except (OSError, RuntimeError, ValueError, UnpicklingError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"images.timm: cannot load the weights of '{model}': {why}; use pretrained: false without a network"
        ) from None

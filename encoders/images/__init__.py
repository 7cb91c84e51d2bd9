"""Images of a patient: radiographs and the like, with times and views."""

from encoders.artefact import Artefact
from encoders.images.conv import ImageConv
from encoders.images.pixels import ImageInputs, ImagePixels
from encoders.images.timm import ImageTimm
from encoders.images.torchvision import ImageTorchvision

IMAGES: dict[str, type] = {
    "conv": ImageConv,
    "timm": ImageTimm,
    "torchvision": ImageTorchvision,
    "artefact": Artefact,
}

__all__ = ["IMAGES", "ImageConv", "ImageInputs", "ImagePixels", "ImageTimm", "ImageTorchvision"]

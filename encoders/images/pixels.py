"""Pixels of images: read, made one size, kept as bytes; their mean and spread learned from training images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import Knowledge, Record, UnreadableImage
from fusion.component import UsageError

_SAMPLE = 500  # images read to learn mean and spread


class ImageInputs(NamedTuple):
    """The most recent images of B patients, oldest first.

    Shape:
        pixels (B, K, C, H, W) uint8; days (B, K) float before the prediction; mask (B, K) bool.
    """

    pixels: Tensor
    days: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ImagePixels:
    """Reads images as `channels` x size x size bytes, the longer side fitted and the rest black."""

    mean: float
    spread: float
    size: int = 64
    channels: int = 1
    max_images: int = 2

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        size: int = 64,
        channels: int = 1,
        max_images: int = 2,
    ) -> Self:
        """Learn mean and spread of the pixels of training images, in 0 to 1.

        Raises:
            UsageError: `size` or `max_images` is less than 1, or `channels` neither 1 nor 3.
        """
        at_least("size", size, 1)
        at_least("max_images", max_images, 1)
        if channels not in (1, 3):
            raise UsageError(f"channels must be 1 (grey) or 3 (colour); got {channels}")
        sums, count = np.zeros(2), 0
        for record in records:
            for image in record.images[-max_images:]:
                if count >= _SAMPLE * size * size * channels:
                    break
                try:
                    pixels = read_pixels(image.path, size, channels).astype(np.float64) / 255
                except UnreadableImage:
                    continue  # encoding will say so, or leave it out if the user asked for that
                sums += [pixels.sum(), (pixels**2).sum()]
                count += pixels.size
        if not count:
            return cls(0.5, 0.25, size, channels, max_images)
        mean = sums[0] / count
        spread = float(np.sqrt(max(sums[1] / count - mean**2, 0.0))) or 1.0
        return cls(float(mean), spread, size, channels, max_images)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        shape = (self.channels, self.size, self.size)
        return {"pixels": (np.dtype(np.uint8), shape), "days": (np.dtype(np.float32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Read the most recent images of a record.

        Raises:
            UnreadableImage: a file is missing or damaged.
        """
        images = record.images[-self.max_images :]
        if not images:
            return None
        pixels = np.stack([read_pixels(image.path, self.size, self.channels) for image in images])
        return {"pixels": pixels, "days": np.array([image.days for image in images], np.float32)}

    def collate(self, packed: Packed, rows: Tensor) -> ImageInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return ImageInputs(columns["pixels"], columns["days"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(**data)


def read_pixels(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Read an image file of 8 or 16 bits, grey or colour.

    Shape:
        -> (channels, size, size) uint8.

    Raises:
        UnreadableImage: the file is missing, damaged, or so large that it looks like a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as opened:
                image = _eight_bits(opened).convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        Pillow.DecompressionBombError,
        Pillow.DecompressionBombWarning,
    ) as error:
        raise UnreadableImage(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    image.thumbnail((size, size), Pillow.Resampling.BILINEAR) if max(image.size) > size else None
    scale = size / max(image.size)
    if scale > 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    canvas = Pillow.new(image.mode, (size, size))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    pixels = np.asarray(canvas, np.uint8).reshape(size, size, -1)
    return np.ascontiguousarray(pixels[:, :, :channels].transpose(2, 0, 1))


def _eight_bits(image: Pillow.Image) -> Pillow.Image:
    """Scale 16-bit and float greys to 8 bits over their own range, as radiographs rarely use all of it.

    A pixel that is no finite number is black.
    """
    if not (image.mode.startswith("I") or image.mode == "F"):
        image.load()
        return image
    values = np.asarray(image, np.float64)
    real = np.isfinite(values)
    low, high = (float(values[real].min()), float(values[real].max())) if real.any() else (0.0, 0.0)
    grey = (np.where(real, values, low) - low) / (high - low or 1.0) * 255
    return Pillow.fromarray(grey.astype(np.uint8))

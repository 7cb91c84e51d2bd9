"""Pixels of images: read, made one size, kept as bytes; mean, spread and views learned from training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.images.reading import read_pixels
from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import Knowledge, Record, UnreadableImage
from fusion.component import UsageError

_SAMPLE = 500  # images read to learn mean and spread
UNKNOWN_VIEW = 0


class ImageInputs(NamedTuple):
    """The most recent images of B patients, oldest first.

    Shape:
        pixels (B, K, C, H, W) uint8; days (B, K) float before the prediction; views (B, K) int64, 0 where unknown;
        mask (B, K) bool.
    """

    pixels: Tensor
    days: Tensor
    views: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ImagePixels:
    """Reads images as `channels` x size x size bytes, the longer side fitted and the rest black; numbers their views.

    A view is known by its name without regard to case; 0 is a view without a name or unseen in training.
    """

    mean: float
    spread: float
    size: int = 64
    channels: int = 1
    max_images: int = 2
    views: tuple[str, ...] = ()

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
        """Learn the views of training images, and the mean and spread of their pixels, in 0 to 1.

        Raises:
            UsageError: `size` or `max_images` is less than 1, or `channels` neither 1 nor 3.
        """
        at_least("size", size, 1)
        at_least("max_images", max_images, 1)
        if channels not in (1, 3):
            raise UsageError(f"channels must be 1 (grey) or 3 (colour); got {channels}")
        sums, views = np.zeros(3), set()  # of pixels, of their squares, and how many
        for record in records:
            for image in record.images[-max_images:]:
                views.add(_view(image.view))
                if sums[2] < _SAMPLE * size * size * channels:
                    sums += _sums(image.path, size, channels)
        mean, spread = 0.5, 0.25
        if sums[2]:
            mean = float(sums[0] / sums[2])
            spread = float(np.sqrt(max(sums[1] / sums[2] - mean**2, 0.0))) or 1.0
        return cls(mean, spread, size, channels, max_images, tuple(sorted(views - {""})))

    @cached_property
    def _views(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.views, start=UNKNOWN_VIEW + 1)}

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        shape = (self.channels, self.size, self.size)
        days, views = np.dtype(np.float32), np.dtype(np.int64)
        return {"pixels": (np.dtype(np.uint8), shape), "days": (days, ()), "views": (views, ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Read the most recent images of a record.

        Raises:
            UnreadableImage: a file is missing or damaged.
        """
        images = record.images[-self.max_images :]
        if not images:
            return None
        return {
            "pixels": np.stack([read_pixels(image.path, self.size, self.channels) for image in images]),
            "days": np.array([image.days for image in images], np.float32),
            "views": np.array([self._views.get(_view(image.view), UNKNOWN_VIEW) for image in images], np.int64),
        }

    def collate(self, packed: Packed, rows: Tensor) -> ImageInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return ImageInputs(columns["pixels"], columns["days"], columns["views"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "views": list(self.views)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(**{**data, "views": tuple(data["views"])})


def _view(name: str) -> str:
    return name.strip().casefold()


def _sums(path: Path, size: int, channels: int) -> NDArray[np.float64]:
    """Return the sum of an image's pixels, that of their squares, and how many there are."""
    try:
        pixels = read_pixels(path, size, channels).astype(np.float64) / 255
    except UnreadableImage:
        return np.zeros(3)  # encoding will say so, or leave it out if the user asked for that
    return np.array([pixels.sum(), (pixels**2).sum(), pixels.size])


__all__ = ["UNKNOWN_VIEW", "ImageInputs", "ImagePixels", "read_pixels"]

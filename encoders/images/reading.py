"""From an image file to bytes of one size: 8 or 16 bits, grey or colour, DICOM too."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from encoders.images.dicom import is_dicom, read_dicom
from encoders.records import UnreadableImage
from fusion.component import UsageError


def read_pixels(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Read an image file; its longer side is fitted to `size`, the rest is black.

    Shape:
        -> (channels, size, size) uint8.

    Raises:
        UnreadableImage: the file is missing, damaged, or so large that it looks like a decompression bomb.
        UsageError: it is a DICOM file, and what reads those is not installed.
    """
    image = open_image(path, "L" if channels == 1 else "RGB")
    image.thumbnail((size, size), Pillow.Resampling.BILINEAR) if max(image.size) > size else None
    scale = size / max(image.size)
    if scale > 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    canvas = Pillow.new(image.mode, (size, size))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    pixels = np.asarray(canvas, np.uint8).reshape(size, size, -1)
    return np.ascontiguousarray(pixels[:, :, :channels].transpose(2, 0, 1))


def open_image(path: Path, mode: str) -> Pillow.Image:
    """Open an image file in its own size, as 8 bits a channel of a mode of Pillow ("L" or "RGB").

    Raises:
        As `read_pixels` does.
    """
    try:
        if is_dicom(path):
            return _eight_bits(read_dicom(path)).convert(mode)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as opened:
                return _eight_bits(opened).convert(mode)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        Pillow.DecompressionBombError,
        Pillow.DecompressionBombWarning,
    ) as error:
        raise UnreadableImage(path, _why(error)) from None


def _why(error: Exception) -> str:
    """Say what is wrong with an image without the name of its file, which Pillow may quote."""
    if isinstance(error, Pillow.DecompressionBombError | Pillow.DecompressionBombWarning):
        return str(error).splitlines()[0]
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "of a kind that is not known" if isinstance(error, UnidentifiedImageError) else "damaged"


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

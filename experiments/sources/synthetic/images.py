"""Small grey pictures like chest radiographs: the image cause is a bright patch low in one lung."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 32


def draw(causes: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a picture a patient.

    Shape:
        causes (N,) of 0 and 1 -> (N, 32, 32) uint8.
    """
    count = len(causes)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    shift = rng.normal(0, 0.8, (count, 2)).astype(np.float32)
    pictures = np.full((count, SIZE, SIZE), 120, np.float32) + rng.normal(0, 10, (count, 1, 1)).astype(np.float32)
    for centre in (9.5, 22.5):
        lung = _bump(x, y, centre + shift[:, :1], 15 + shift[:, 1:], 5.0, 9.0)
        pictures -= 75 * np.clip(lung * 1.6, 0, 1)
    side = rng.integers(0, 2, count)
    where = np.where(side == 0, 9.5, 22.5)[:, None] + shift[:, :1] + rng.normal(0, 1, (count, 1))
    patch = _bump(x, y, where, 19 + rng.normal(0, 1.2, (count, 1)), 3.6, 3.6)
    pictures += causes[:, None, None] * 110 * patch
    wire = _bump(x, y, rng.uniform(3, 28, (count, 1)), rng.uniform(1, 6, (count, 1)), 1.2, 1.2)
    pictures += (rng.random(count) < 0.5)[:, None, None] * 90 * wire  # a device at the top says nothing
    pictures += rng.normal(0, 9, pictures.shape).astype(np.float32)
    return np.clip(pictures, 0, 255).astype(np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode one picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _bump(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    across: NDArray[np.floating],
    down: NDArray[np.floating],
    width: float,
    height: float,
) -> NDArray[np.float32]:
    """A soft ellipse a picture. Shape: centres (N, 1) each -> (N, 32, 32)."""
    far = ((x[None] - across[..., None]) / width) ** 2 + ((y[None] - down[..., None]) / height) ** 2
    return np.exp(-far).astype(np.float32)

"""Pixels: read, scaled, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from toy_inputs import NAN, NOTHING

from encoders.images import ImagePixels
from encoders.images.pixels import read_pixels
from encoders.records import Image, Record, UnreadableImage
from fusion import UsageError


def save(path: Path, pixels: Any, kind: Any = np.uint8) -> Path:
    Pillow.fromarray(np.array(pixels, kind)).save(path)
    return path


def test_sixteen_bits_are_scaled_over_their_own_range(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", [[1000, 2000], [3000, 5000]], np.uint16)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 63], [127, 255]]]
    assert read_pixels(save(tmp_path / "flat.png", [[900, 900]] * 2, np.uint16), 2, 1).tolist() == [[[0, 0], [0, 0]]]


def test_grey_and_colour_become_each_other(tmp_path: Path) -> None:
    grey = read_pixels(save(tmp_path / "grey.png", [[0, 50], [100, 200]]), 2, 3)
    assert grey.tolist() == [[[0, 50], [100, 200]]] * 3
    red = save(tmp_path / "red.png", [[[255, 0, 0]] * 2] * 2)
    assert read_pixels(red, 2, 3).tolist() == [[[255, 255]] * 2, [[0, 0]] * 2, [[0, 0]] * 2]
    assert read_pixels(red, 2, 1).tolist() == [[[76, 76]] * 2]  # 0.299 of 255


@pytest.mark.parametrize("size", [(4, 8), (1, 2), (2, 4)])
def test_longer_side_fits_and_the_rest_is_black(tmp_path: Path, size: tuple[int, int]) -> None:
    found = read_pixels(save(tmp_path / "wide.png", np.full(size, 255)), 4, 1)
    assert found.tolist() == [[[0] * 4, [255] * 4, [255] * 4, [0] * 4]]


def test_thin_picture_keeps_a_line(tmp_path: Path) -> None:
    assert read_pixels(save(tmp_path / "thin.png", np.full((1, 100), 255)), 4, 1).sum() == 4 * 255


def test_missing_pixel_of_a_float_picture_spoils_no_other(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tiff", [[NAN, 1.0], [0.0, 2.0]], np.float32)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 127], [0, 255]]]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "text": lambda _: b"this is no picture",
    "empty": lambda _: b"",
    "flipped": lambda data: data[:40] + bytes(255 - each for each in data[40:60]) + data[60:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_image_names_its_file(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (20, 20)))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    pixels = ImagePixels(0.5, 0.25, 8)
    with pytest.raises(UnreadableImage) as raised:
        pixels.encode(Record(images=(Image(path, 1.0, "front"),)))
    assert str(raised.value).startswith("unreadable image: ")
    assert "\n" not in str(raised.value)
    assert raised.value.path == path
    assert isinstance(raised.value, UsageError)


def test_missing_image_and_bomb_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImage, match=r"^unreadable image: no such file$"):
        read_pixels(tmp_path / "gone.png", 8, 1)
    path = save(tmp_path / "big.png", np.zeros((20, 20)))
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(UnreadableImage, match="decompression bomb"):
        read_pixels(path, 8, 1)


def test_pixels_learn_mean_and_spread_and_pass_over_damage(tmp_path: Path) -> None:
    black, white = save(tmp_path / "b.png", np.zeros((4, 4))), save(tmp_path / "w.png", np.full((4, 4), 255))
    (tmp_path / "bad.png").write_bytes(b"bad")
    record = Record(images=tuple(Image(path, 1.0, "front") for path in (black, white, tmp_path / "bad.png")))
    fitted = ImagePixels.fit([record], NOTHING, size=4, max_images=3)
    assert (fitted.mean, fitted.spread) == (0.5, 0.5)
    newest = ImagePixels.fit([Record(images=record.images[:2])], NOTHING, size=4, max_images=1)
    assert (newest.mean, newest.spread) == (1.0, 1.0), "only images that are used are learned from; no spread is 1"
    nothing = ImagePixels.fit([Record()], NOTHING)
    assert (nothing.mean, nothing.spread) == (0.5, 0.25)


def test_newest_images_are_kept(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", np.full((2, 2), 40 * i)) for i in range(3)]
    encoded = ImagePixels(0.5, 0.25, 2).encode(Record(images=tuple(Image(p, 9.0 - i, "") for i, p in enumerate(paths))))
    assert encoded is not None
    assert encoded["days"].tolist() == [8, 7]
    assert encoded["pixels"][:, 0, 0, 0].tolist() == [40, 80]

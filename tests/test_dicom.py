"""DICOM files made by hand: rescaling, windows, inversion, colours, frames, damage and what messages give away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from encoders.images.pixels import ImagePixels, read_pixels
from encoders.records import Image, Knowledge, Record, UnreadableImage
from fusion import UsageError

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'ehrfusion[dicom]'")
STEPS = [[0, 1000], [2000, 4000]]


def write(path: Path, pixels: Any, bits: int = 12, syntax: str | None = None, **header: Any) -> Path:
    """Write a DICOM file whose patient has a name that no message may tell."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    values = np.asarray(pixels)
    if values.dtype == np.int64:
        values = values.astype(np.uint8 if bits <= 8 else np.uint16)
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    found.SOPClassUID, found.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    found.PatientName, found.PatientID = "SECRET^NAME", "SECRET1"
    colour = header.get("PhotometricInterpretation") == "RGB"
    found.SamplesPerPixel = 3 if colour else 1
    found.PhotometricInterpretation = "MONOCHROME2"
    found.Rows, found.Columns = values.shape[-3:-1] if colour else values.shape[-2:]
    found.BitsAllocated = 8 * values.dtype.itemsize
    found.BitsStored, found.HighBit = bits, bits - 1
    found.PixelRepresentation = int(values.dtype.kind == "i")
    if colour:
        found.PlanarConfiguration = 0
    if "NumberOfFrames" in header or values.ndim == 3 + colour:
        found.NumberOfFrames = len(values)
    found.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in header.items():
        setattr(found, name, value)
    found.save_as(path, enforce_file_format=True)
    return path


def test_twelve_bits_are_scaled_over_their_own_range(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", STEPS)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 63], [127, 255]]]
    assert read_pixels(path, 2, 3).tolist() == [[[0, 63], [127, 255]]] * 3


@pytest.mark.parametrize("name", ["x", "x.DCM", "x.dicom", "x.png"])
def test_known_by_name_or_by_mark(tmp_path: Path, name: str) -> None:
    assert read_pixels(write(tmp_path / name, STEPS), 2, 1).tolist() == [[[0, 63], [127, 255]]]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, [[255, 191], [127, 0]]),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, [[0, 63], [127, 255]]),
        ({"RescaleSlope": -1, "RescaleIntercept": 0}, [[255, 191], [127, 0]]),
        ({"WindowCenter": 1000.5, "WindowWidth": 2001}, [[0, 127], [255, 255]]),  # black to 0, white from 2000
        ({"WindowCenter": [1000.5, 9], "WindowWidth": [2001, 9]}, [[0, 127], [255, 255]]),
        (
            {"WindowCenter": -0.5, "WindowWidth": 2001, "RescaleSlope": 1, "RescaleIntercept": -1001},
            [[0, 127], [255, 255]],
        ),
        ({"WindowCenter": 5, "WindowWidth": 0}, [[0, 63], [127, 255]]),
        (
            {"WindowCenter": 1000.5, "WindowWidth": 2001, "PhotometricInterpretation": "MONOCHROME1"},
            [[255, 127], [0, 0]],
        ),
    ],
    ids=["inverted", "rescaled", "negative", "window", "windows", "both", "no width", "inverted window"],
)
def test_header_decides_what_is_bright(tmp_path: Path, header: dict[str, Any], expected: list[list[int]]) -> None:
    found = read_pixels(write(tmp_path / "x.dcm", STEPS, **header), 2, 1)
    np.testing.assert_allclose(found[0], expected, atol=1)


def test_signed_and_sixteen_bits(tmp_path: Path) -> None:
    signed = write(tmp_path / "s.dcm", np.array([[-2000, -1000], [0, 2000]], np.int16), bits=16)
    assert read_pixels(signed, 2, 1).tolist() == [[[0, 63], [127, 255]]]
    wide = write(tmp_path / "w.dcm", [[0, 16000], [32000, 64000]], bits=16)
    assert read_pixels(wide, 2, 1).tolist() == [[[0, 63], [127, 255]]]


def test_lookup_table_of_values_of_interest(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], np.array([200, 0, 0, 100], np.uint16).tobytes()
    path = write(tmp_path / "x.dcm", [[0, 1], [2, 3]], VOILUTSequence=[table])
    assert read_pixels(path, 2, 1).tolist() == [[[255, 0], [0, 127]]]


def test_colours(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", [[[255, 0, 0]] * 2] * 2, bits=8, PhotometricInterpretation="RGB")
    assert read_pixels(path, 2, 3).tolist() == [[[255, 255]] * 2, [[0, 0]] * 2, [[0, 0]] * 2]
    assert read_pixels(path, 2, 1).tolist() == [[[76, 76]] * 2]


def test_middle_one_of_several_frames(tmp_path: Path) -> None:
    frames = [[[9, 9], [9, 9]], STEPS, [[7, 7], [7, 7]]]
    assert read_pixels(write(tmp_path / "x.dcm", frames), 2, 1).tolist() == [[[0, 63], [127, 255]]]


def test_compressed_without_loss(tmp_path: Path) -> None:
    from pydicom.uid import RLELossless

    path = write(tmp_path / "x.dcm", STEPS)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 63], [127, 255]]]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-4],
    "beheaded": lambda data: data[:200],
    "text": lambda _: b"this is no picture",
    "empty": lambda _: b"",
    "mark only": lambda data: data[:132],
    "no header": lambda data: data[132:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "x.dcm", STEPS)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(UnreadableImage) as raised:
        ImagePixels(0.5, 0.25, 8).encode(Record(images=(Image(path, 1.0, "front"),)))
    assert str(raised.value).startswith("unreadable image: ")
    assert "\n" not in str(raised.value)
    assert "SECRET" not in str(raised.value)
    assert raised.value.path == path


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bytes_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path / "x.dcm", STEPS, WindowCenter=1000, WindowWidth=2000)
    data, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in random.integers(132, len(data), 6):
        data[place] = random.integers(256)
    path.write_bytes(bytes(data))
    message = ""
    try:
        assert read_pixels(path, 2, 1).shape == (1, 2, 2)
    except UsageError as error:
        message = str(error)
    assert path.name not in message
    assert "\n" not in message
    assert "SECRET" not in message


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"Rows": 40000, "Columns": 40000}, "1600000000 pixels exceed the limit of"),
        ({"Rows": 0}, "no picture in this DICOM file"),
        ({"NumberOfFrames": 9}, "damaged or unsupported DICOM (ValueError)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged or unsupported DICOM (ValueError)"),
    ],
)
def test_headers_that_promise_too_much(tmp_path: Path, header: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "x.dcm", STEPS, **header)
    with pytest.raises(UnreadableImage) as raised:
        read_pixels(path, 2, 1)
    assert str(raised.value).startswith(f"unreadable image: {why}")


def test_a_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", STEPS, syntax="1.2.840.10008.1.2.1.99")
    with pytest.raises(UnreadableImage, match="deflated DICOM is not read"):
        read_pixels(path, 2, 1)


def test_missing_file_and_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImage, match=r"^unreadable image: no such file$"):
        read_pixels(tmp_path / "gone.dcm", 8, 1)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 3)
    with pytest.raises(UnreadableImage, match="4 pixels exceed the limit of 3; is it a decompression bomb"):
        read_pixels(write(tmp_path / "x.dcm", STEPS), 8, 1)


def test_a_missing_library_is_one_line_and_no_missing_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.dcm", STEPS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError) as raised:
        ImagePixels.fit([Record(images=(Image(path, 1.0, "front"),))], Knowledge())
    assert str(raised.value) == ("reading DICOM needs pydicom; install it with: pip install 'ehrfusion[dicom]'")
    assert not isinstance(raised.value, UnreadableImage), "it would pass for a damaged file, and be left out"


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import Decoder
    from pydicom.uid import RLELossless

    path = write(tmp_path / "x.dcm", STEPS)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    monkeypatch.setattr(Decoder, "is_available", property(lambda _: False))
    with pytest.raises(
        UsageError, match=r"no decoder of RLE Lossless is installed; try: pip install 'pylibjpeg\[all\]'"
    ):
        read_pixels(path, 2, 1)

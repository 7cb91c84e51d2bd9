"""DICOM files, the radiographs as hospitals send them: rescaled and windowed as their headers say."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from encoders.records import UnreadableImage
from fusion.component import UsageError

_SUFFIXES = (".dcm", ".dicom")
_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(path: Path) -> bool:
    """Tell by its name or by the mark at byte 128 whether a file is DICOM.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        return path.suffix.lower() in _SUFFIXES or file.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> Pillow.Image:
    """Read the picture of a DICOM file, of several frames the middle one; colours have 8 bits, greys are floats.

    Greys go through the modality rescaling and the first window or lookup table of the file, and bright is dense: a
    file whose highest value is black (MONOCHROME1) is inverted.

    Raises:
        UnreadableImage: the file is damaged, has no picture, or is absurdly large.
        UsageError: pydicom, or what decompresses this file, is not installed.
    """
    _check_installed()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes the values it finds odd, and these are a patient's
            return _picture(path)
    except (OSError, UsageError):
        raise
    except Exception as error:  # every part of a file may be damaged, and each fails in its own way
        raise UnreadableImage(path, f"damaged or unsupported DICOM ({type(error).__name__})") from None


def _check_installed() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise UsageError("reading DICOM needs pydicom; install it with: pip install 'ehrfusion[dicom]'") from None


def _picture(path: Path) -> Pillow.Image:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    header = _header(path)
    frames = int(header.get("NumberOfFrames") or 1)
    values = pixel_array(path, index=frames // 2)
    kind = str(header.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        table = apply_color_lut(values, header)
        return _colours(table[..., :3], 8 * table.dtype.itemsize)
    if values.ndim == 3:
        return _colours(values, int(header.BitsStored))
    values = _window(apply_modality_lut(values, header), header).astype(np.float32)
    return Pillow.fromarray(values.max() - values if kind == "MONOCHROME1" else values)


def _header(path: Path) -> Any:
    """Read all but the pixels, and refuse what may not be decompressed before it is."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels import get_decoder

    try:
        syntax = read_file_meta_info(path).TransferSyntaxUID
    except InvalidDicomError:
        raise UnreadableImage(path, "no DICOM file") from None
    if syntax == _DEFLATED:
        raise UnreadableImage(path, "deflated DICOM is not read, for what it inflates to has no bound")
    header = dcmread(path, stop_before_pixels=True)
    if not (header.get("Rows") and header.get("Columns")):
        raise UnreadableImage(path, "no picture in this DICOM file")
    pixels, limit = int(header.Rows) * int(header.Columns), Pillow.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        raise UnreadableImage(path, f"{pixels} pixels exceed the limit of {limit}; is it a decompression bomb?")
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise UsageError(f"no decoder of {syntax.name} is installed; try: pip install 'pylibjpeg[all]'")
    return header


def _window(values: NDArray[Any], header: Any) -> NDArray[Any]:
    from pydicom.pixels import apply_voi_lut

    try:
        windowed: NDArray[Any] = apply_voi_lut(values, header)
    except ValueError:
        return values  # a window of no width is a common slip, and the picture is good without one
    return windowed


def _colours(values: NDArray[Any], bits: int) -> Pillow.Image:
    return Pillow.fromarray(np.clip(values / (2**bits - 1) * 255, 0, 255).astype(np.uint8))

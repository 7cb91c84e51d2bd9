"""One random change of a tree, a table or an image."""

from __future__ import annotations

import copy
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st
from PIL import Image

Draw = Callable[[st.SearchStrategy[Any]], Any]
# numbers stay small where they may be taken: an epoch more is no mistake, and takes its time
ODD: list[Any] = [None, True, -1, 0, 3, 0.5, float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd"]
ODD += ["a" * 300, [], [[]], {}, {"name": 3}, {1: 2}, ["codes"], {"low": 1, "high": 0}]
ODD += ["postgresql://me:zqxcanary@127.0.0.1:1/x", "http://["]
TEXTS = ["", "\x00", "x" * 5000, "../../../etc/passwd", "/etc/passwd", "\uffff", "NOTE//", "MEDS_BIRTH", "train"]


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree[:20]) if isinstance(tree, list) else ()
    for key, value in children:
        yield (*path, key)
        yield from _places(value, (*path, key))


@st.composite
def spoiled_tree(draw: Draw, tree: Any, odd: Any = ODD) -> Any:
    """One or two places of plain data given another value, taken away or renamed."""
    found = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(found))
        if not places:
            return found
        *way, last = draw(st.sampled_from(places))
        parent = found
        for key in way:
            parent = parent[key]
        how = draw(st.sampled_from(["value", "value", "gone", "renamed", "more"]))
        if how == "value" or isinstance(parent, list):
            parent[last] = copy.deepcopy(draw(st.sampled_from(odd)))
        elif how == "gone":
            del parent[last]
        elif how == "renamed":
            parent[f"{last}s"] = parent.pop(last)
        else:
            parent[draw(st.sampled_from(["x", 7, None, "model", "space", "search"]))] = draw(st.sampled_from(odd))
    return found


def spoiled_json(tree: Any) -> st.SearchStrategy[Any]:
    """As `spoiled_tree`, with what JSON can hold."""
    return spoiled_tree(
        tree, [each for each in ODD if not isinstance(each, dict) or all(isinstance(k, str) for k in each)]
    )


@st.composite
def spoiled_table(draw: Draw, path: Path) -> pl.DataFrame | bytes:
    """A table with one thing wrong, or the bytes of a file that is none."""
    if draw(st.integers(0, 4)) == 0:
        content = path.read_bytes()
        at = draw(st.integers(0, len(content) - 1))
        return draw(
            st.sampled_from([content[:at], content[:at] + b"\xff\x00\xff" + content[at + 3 :], b"", b"PAR1PAR1"])
        )
    table = pl.read_parquet(path)
    return CHANGES[draw(st.sampled_from(sorted(CHANGES)))](draw, table, draw(st.sampled_from(table.columns)))


def _values(draw: Draw, table: pl.DataFrame, name: str) -> pl.DataFrame:
    kind = table.schema[name]
    odd: list[Any]
    if isinstance(kind, pl.Datetime):
        odd = [None, datetime(1, 1, 1), datetime(9999, 12, 31), datetime(1970, 1, 1), 2**62, -(2**62)]
    elif kind == pl.String:
        odd = [None, *TEXTS]
    elif kind.is_float():
        odd = [None, float("nan"), float("inf"), -3e38, 1e-45]
    elif kind.is_integer():
        odd = [None, 0, -1, 2**63 - 1, -(2**63)]
    elif kind == pl.Boolean:
        odd = [None, True, False]
    else:
        odd = [None]
    value, every = draw(st.sampled_from(odd)), draw(st.booleans())
    where = pl.lit(value=True) if every else pl.int_range(pl.len()) == draw(st.integers(0, max(0, table.height - 1)))
    return table.with_columns(pl.when(where).then(_literal(value, kind)).otherwise(pl.col(name)).alias(name))


def _literal(value: Any, kind: pl.DataType) -> pl.Expr:
    return pl.lit(value).cast(kind) if isinstance(value, int) and not isinstance(value, bool) else pl.lit(value, kind)


def _kind(draw: Draw, table: pl.DataFrame, name: str) -> pl.DataFrame:
    kinds: list[Any] = [
        pl.String,
        pl.Int8,
        pl.UInt64,
        pl.Float64,
        pl.Boolean,
        pl.Date,
        pl.Categorical,
        pl.Binary,
        pl.Null,
    ]
    kinds += [
        pl.Datetime("ns"),
        pl.Datetime("ms", "Asia/Tokyo"),
        pl.Datetime("us", "UTC"),
        pl.List(pl.Int64),
        pl.Duration,
    ]
    kind = draw(st.sampled_from(kinds))
    try:
        return table.with_columns(pl.col(name).cast(kind, strict=False))
    except pl.exceptions.PolarsError:
        return table.with_columns(pl.lit(None, kind).alias(name))


CHANGES: dict[str, Callable[[Draw, pl.DataFrame, str], pl.DataFrame]] = {
    "dropped": lambda _, table, name: table.drop(name),
    "renamed": lambda _, table, name: table.rename({name: f"{name}s"}),
    "kind": _kind,
    "kind again": _kind,
    "values": _values,
    "values again": _values,
    "more values": _values,
    "empty": lambda _, table, __: table.clear(),
    "one row": lambda _, table, __: table.head(1),
    "twice": lambda _, table, __: pl.concat([table, table]),
    "shuffled": lambda draw, table, _: table.sample(fraction=1, shuffle=True, seed=draw(st.integers(0, 99))),
    "struct": lambda _, table, name: table.with_columns(pl.struct(pl.all()).alias(name)),
    "more columns": lambda _, table, __: table.with_columns(pl.lit("x").alias("site"), pl.lit(1).alias("view")),
    "no columns": lambda _, table, __: table.select([]),
    "loops": lambda _, table, __: _loops(table),
    "circle": lambda _, table, __: _circle(table),
}


def _loops(table: pl.DataFrame) -> pl.DataFrame:
    if "tail" in table.columns:
        return table.with_columns(tail=pl.col("head"))
    return table.with_columns(parent_codes=pl.concat_list("code")) if "parent_codes" in table.columns else table


def _circle(table: pl.DataFrame) -> pl.DataFrame:
    """Every code below the next one, and the last below the first."""
    if "tail" in table.columns:
        return table.with_columns(
            tail=pl.col("head").shift(-1).fill_null(table["head"].first()), relation=pl.lit("is_a")
        )
    if "parent_codes" in table.columns:
        following = pl.col("code").shift(-1).fill_null(table["code"].first())
        return table.with_columns(parent_codes=pl.concat_list(following))
    return table


@st.composite
def spoiled_image(draw: Draw, path: Path) -> bytes | None:
    """The bytes of an image that is damaged, odd, or a bomb; None: the file is gone."""
    content = path.read_bytes()
    how = draw(
        st.sampled_from(["cut", "flip", "zero", "none", "text", "bomb", "mode", "mode", "format", "gone", "dicom"])
    )
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if how == "flip":
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    if how in ("mode", "format"):
        mode = (
            draw(st.sampled_from(["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F"])) if how == "mode" else "RGB"
        )
        return _drawn(mode, draw(st.integers(1, 40)), draw(st.sampled_from(["gif", "bmp", "tiff", "webp", "ppm"])))
    fixed = {"zero": b"\x00" * len(content), "none": b"", "text": b"no picture", "gone": None, "bomb": bomb(60_000)}
    return (b"\x00" * 128 + b"DICM" + content) if how == "dicom" else fixed[how]


def _drawn(mode: str, size: int, kind: str) -> bytes:
    noise = np.random.default_rng(size).integers(0, 255, (size, size), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture = Image.fromarray(noise.astype(np.uint16) * 200) if mode == "I;16" else picture.convert(mode)
    out = io.BytesIO()
    lossless = {
        "1": "png",
        "P": "png",
        "LA": "png",
        "RGBA": "png",
        "I;16": "png",
        "I": "tiff",
        "F": "tiff",
        "CMYK": "tiff",
    }
    picture.save(out, lossless.get(mode, kind))
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that says it is side x side pixels, and has the bytes for some of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\x00" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

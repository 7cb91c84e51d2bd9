"""The tables of MIMIC-CXR-JPG."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from experiments.sources.mimic.facts import Known, Table
from experiments.sources.mimic.films import IMAGES, LABELS, METADATA, Films, image_facts, label_facts


def _of(known: Known) -> Films:
    assert known.films is not None, "there are X-rays where there is a table of them"
    return known.films


def _images(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    return image_facts(piece, _of(known))


def _labels(labeller: str) -> Callable[[pl.DataFrame, Known], pl.DataFrame]:
    return lambda piece, known: label_facts(piece, _of(known), labeller)


FILMS_4 = (
    Table(METADATA, IMAGES, _images),
    Table("cxr_chexpert", LABELS, _labels("CHEXPERT")),
    Table("cxr_negbio", LABELS, _labels("NEGBIO")),
)

"""What codes mean in plain words: a user's glossary first, then the data's descriptions, then what ICD says."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.serialise import BLOCKS, find_block
from experiments.ontologies.diagnoses import icd10_title
from experiments.sources.icd import icd_description, icd_parent
from fusion import UsageError

MOST = 15  # codes a category
UNNAMED = "no description"


def read_glossary(path: Path | None) -> dict[str, str]:
    """Read a CSV of codes and plain words, with or without a line of heads; nothing where there is none.

    Raises:
        UsageError: there is no such file, or a line has not two columns; the message has its number.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise UsageError(f"card.glossary: no such file: {path}")
    found = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(csv.reader(file), start=1):
            if len(line) != 2:
                raise UsageError(f"{path}, line {number}: wanted a code and its words, two columns; got {len(line)}")
            found[line[0].strip()] = line[1].strip()
    return found


def gloss(code: str, glossary: Mapping[str, str], descriptions: Mapping[str, str]) -> str:
    """Return what a code means, from the first source that knows it; of ICD, at least its chapter."""
    if known := glossary.get(code) or descriptions.get(code) or _icd_text(code):
        return " ".join(known.split())
    above = code
    while (parent := icd_parent(above)) is not None:
        above = parent
    chapter = icd_description(above)
    return f"one of: {chapter.lower()}" if chapter else UNNAMED


def frequent_codes(codes: Sequence[str], counts: NDArray[np.int64], most: int = MOST) -> dict[str, list[str]]:
    """Return the most frequent codes of each category, most frequent first.

    Shape:
        counts (C,), how many training rows have each code.
    """
    found: dict[str, list[str]] = {name: [] for name in BLOCKS}
    for place in np.argsort(-counts, kind="stable"):
        mine = found[find_block(codes[place])]
        if counts[place] > 0 and len(mine) < most:
            mine.append(codes[place])
    return {BLOCKS[name].heading: mine for name, mine in found.items() if mine}


def glosses(
    frequent: Mapping[str, Iterable[str]], glossary: Mapping[str, str], descriptions: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return what the codes of each category mean."""
    return {name: {code: gloss(code, glossary, descriptions) for code in codes} for name, codes in frequent.items()}


def _icd_text(code: str) -> str | None:
    """Return what the optional package simple-icd-10-cm calls a code; None without it."""
    vocabulary, _, bare = code.partition("//")
    if vocabulary != "ICD10CM":
        return None
    return icd10_title(bare)

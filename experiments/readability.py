"""How easily a text is read: Flesch's reading ease and the Flesch-Kincaid school grade."""

from __future__ import annotations

import re
from typing import NamedTuple


class Readability(NamedTuple):
    """Reading ease (60 to 70 is plain English, 30 a scientific paper) and the school grade that it takes."""

    ease: float
    grade: float


def readability(text: str) -> Readability:
    """Return how easily English prose is read; syllables are counted by groups of vowels, a silent e left out.

    Our own, because textstat fetches a dictionary of syllables from the network when it is first used.

    Raises:
        ValueError: there is no word in it.

    Reference:
        Flesch, A New Readability Yardstick, 1948; Kincaid et al., Derivation of New Readability Formulas, 1975.
    """
    words = re.findall(r"[A-Za-z][A-Za-z'-]*", text)
    if not words:
        raise ValueError("readability needs at least one word")
    sentences = max(1, len(re.findall(r"[.!?:;](?=\s|$)", text)))
    length, syllables = len(words) / sentences, sum(map(_syllables, words)) / len(words)
    return Readability(206.835 - 1.015 * length - 84.6 * syllables, 0.39 * length + 11.8 * syllables - 15.59)


def _syllables(word: str) -> int:
    lower = word.lower()
    groups = len(re.findall(r"[aeiouy]+", lower))
    silent = lower.endswith("e") and not lower.endswith(("le", "ee", "ye")) and groups > 1
    return max(1, groups - silent)

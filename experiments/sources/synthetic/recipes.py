"""Recipes: which hidden causes decide the label, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CAUSES = ("disease", "laboratory", "note", "image", "family")
"""Hidden binary causes: in diagnosis codes, in laboratory values, in notes, in images, in the parents of rare codes."""

SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "codes": ("disease", "laboratory", "family"),
    "notes": ("note",),
    "images": ("image",),
    "graph": ("disease", "family"),
}
"""Which causes an optimal reader of one modality knows. A reader of the graph sees codes and parents, no values."""


@dataclass(frozen=True)
class Recipe:
    """Log-odds of the label: `weights` times (+1 or -1) of each cause, `synergy` times disease times note.

    With `shared`, all causes are one. Rare codes come from a pool of `leaves` a family. `clutter`
    multiplies how many codes, values, sentences and notes there are that say nothing. `missing` is the share of
    patients without notes and without images, and `missing_held_out` that of the held-out split where it differs.
    With `drugs` there is a second label: which drugs a patient is given.
    """

    story: str
    weights: Mapping[str, float] = field(default_factory=dict)
    synergy: float = 0.0
    base: float = 0.0
    shared: bool = False
    leaves: int = 60
    clutter: float = 1.0
    missing: tuple[float, float] = (0.3, 0.5)
    missing_held_out: tuple[float, float] | None = None
    drugs: bool = False
    can: tuple[str, ...] = ("early", "late", "cross_attention")
    cannot: tuple[str, ...] = ()


RECIPES: Mapping[str, Recipe] = {
    "redundant": Recipe(
        "every modality shows the same cause: fusing helps only those who lack one",
        dict.fromkeys(CAUSES, 0.4),
        base=-0.4,
        shared=True,
    ),
    "unique": Recipe(
        "each modality carries a part of its own: any fusion beats every single modality",
        {"disease": 0.9, "note": 1.3, "image": 1.4, "family": 0.9},
        base=-0.5,
    ),
    "synergy": Recipe(
        "the label is code XOR note: neither says anything alone, and no additive late fusion can say it",
        synergy=2.6,
        clutter=0.1,  # exclusive or gives no gradient to start from: what shows the causes must be easy to find
        can=("early", "cross_attention"),
        cannot=("late",),
    ),
    "ancestor": Recipe(
        "the label hangs on a parent code whose leaves are rare: who knows the hierarchy wins",
        {"family": 2.2},
        leaves=3000,
    ),
    "missing": Recipe(
        "parts as in unique, but most held-out patients lack the image and many the note, which few did in training",
        {"disease": 0.9, "note": 1.3, "image": 1.4, "family": 0.9},
        base=-0.5,
        missing=(0.1, 0.1),
        missing_held_out=(0.5, 0.85),
    ),
    "noise": Recipe("the label depends on nothing: whoever wins here is lucky", base=-0.4),
    "drugs": Recipe(
        "sets of drugs, each given for causes that different modalities show; some that are given together interact",
        {"disease": 0.4, "note": 0.4, "image": 0.4, "family": 0.4},
        base=-0.5,
        clutter=0.3,
        missing=(0.15, 0.5),
        drugs=True,
    ),
    "mixed": Recipe(
        "a part in every modality, one interaction of code and note, one effect of a parent code",
        {"disease": 1.4, "laboratory": 1.2, "note": 2.6, "image": 3.0, "family": 1.4},
        synergy=2.0,
        base=-1.5,
    ),
}

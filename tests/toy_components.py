"""Encoders and fusions that are signatures only, for tests of spaces."""

from __future__ import annotations

from typing import Annotated, Any

from fusion.component import Choice, Float, Int
from search.space import Space


class Recurrent:
    """An encoder with one range of each kind and one hyperparameter that is not searched."""

    def __init__(
        self,
        preprocessor: Any,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        cell: Annotated[str, Choice("gru", "lstm")] = "gru",
        bias: bool = True,
    ) -> None: ...


class Bag:
    """An encoder without anything to search."""

    def __init__(self, preprocessor: Any, dim: int) -> None: ...


class Pretrained:
    """An encoder whose texts name models, each of which needs its own preparation of the data."""

    def __init__(
        self,
        preprocessor: Any,
        dim: int,
        *,
        model: Annotated[str, Choice("small", "large")] = "small",
        pooling: Annotated[str, Choice("mean", "first", "max")] = "mean",
        heads: Annotated[int, Choice(2, 4)] = 2,
        tune: bool = False,
    ) -> None: ...


class Late:
    """A fusion without hyperparameters."""

    def __init__(self, modalities: Any, dim: int) -> None: ...


class Early:
    """A fusion with a range."""

    def __init__(self, modalities: Any, dim: int, *, layers: Annotated[int, Int(1, 4)] = 1) -> None: ...


TOY_ENCODERS: dict[str, dict[str, type]] = {
    "codes": {"bag": Bag, "recurrent": Recurrent},
    "notes": {"bag": Bag, "pretrained": Pretrained},
}
TOY_FUSIONS: dict[str, type] = {"late": Late, "early": Early}
TRAINING: dict[str, type] = {"lr": float, "batch_size": int, "class_weights": bool}


def space(**parts: Any) -> Space:
    data = {"encoders": {"codes": "bag"}, "fusion": "late", "dim": 32, **parts}
    return Space.from_dict(data, TOY_ENCODERS, TOY_FUSIONS, TRAINING)

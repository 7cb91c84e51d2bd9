"""Encoders: from what a patient has of one modality to tokens. Imports fusion and torch; heavy libraries lazily.

The catalogue is loaded when it is first asked for: records, which data are read into, need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoders.catalogue import CODES, ENCODERS, GRAPH, IMAGES, NOTES

__all__ = ["CODES", "ENCODERS", "GRAPH", "IMAGES", "NOTES"]


def __getattr__(name: str) -> Any:
    """Return what the catalogue has of this name, and load it with torch."""
    if name not in __all__:
        raise AttributeError(f"module 'encoders' has no attribute '{name}'")
    found = getattr(import_module("encoders.catalogue"), name)
    globals()[name] = found
    return found

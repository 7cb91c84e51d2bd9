"""All encoders by modality and name; needs torch."""

from encoders.codes import CODES
from encoders.graph import GRAPH
from encoders.images import IMAGES
from encoders.notes import NOTES

ENCODERS: dict[str, dict[str, type]] = {"codes": CODES, "notes": NOTES, "images": IMAGES, "graph": GRAPH}

__all__ = ["CODES", "ENCODERS", "GRAPH", "IMAGES", "NOTES"]

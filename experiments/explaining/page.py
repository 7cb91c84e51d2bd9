"""The page of what predictions rest on within each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.explaining.pictures import bars_png
from experiments.explaining.tally import LEAST, Saliency, Tally
from experiments.figures import as_png
from experiments.reporting.page import Part, image, page, paragraph
from experiments.reporting.table import table
from experiments.section import Table

if TYPE_CHECKING:
    from experiments.bundle import Predictor

_SHOWN = 20  # rows of a table on the page; its CSV has all
_ROUGH = 0.1
_KINDS = {"codes": "code", "notes": "word", "graph": "node", "images": "region"}


@dataclass
class Explained:
    """What was found of one modality for one output, which has a name where there are several."""

    modality: str
    output: str
    names: dict[int, str]
    items: Tally = field(default_factory=Tally)
    regions: Saliency = field(default_factory=Saliency)
    possible: bool = True
    said: float = 0.0
    missed: float = 0.0

    @property
    def title(self) -> str:
        """The modality, and the output where there are several."""
        return f"{self.modality}, {self.output}" if self.output else self.modality

    @property
    def table(self) -> Table:
        """What moves the predictions most, first."""
        rows, others = self.items.table(self.names)
        kind = _KINDS.get(self.modality, "item")
        note = f"{others:,} more have fewer than {LEAST} patients or no name, and are not told." if others else ""
        return Table([kind, "patients", "mean attribution", "mean size"], [list(each) for each in rows], note)


def tables_of(found: Sequence[Explained]) -> dict[str, Table]:
    """Return the tables that are not empty, by the names of their files."""
    made = {each.title.replace(", ", "_").replace(" ", "_").replace("/", "_"): each.table for each in found}
    return {name: each for name, each in made.items() if each.rows}


def explained_html(predictor: Predictor, found: Sequence[Explained], rows: int) -> str:
    """Return the page."""
    scale = "in the target's unit, standardised" if predictor.task.kind == "regression" else "in log-odds"
    words = (
        "Integrated gradients: by how much a code, word, node or pixel moves the prediction "
        f"({scale}), from a patient of whom nobody knows what these are (their times and number stay) to the patient "
        "as is. A patient's attributions add up to that difference. Means are over the patients who have it; nothing "
        f"is told of fewer than {LEAST} patients. Attributions say what the model uses, not what causes an outcome."
    )
    parts = [Part(f"What counts in {each.title}", _body(each)) for each in found]
    return page("What predictions rest on", f"{rows:,} predictions", parts, opening=[paragraph(words)])


def _body(each: Explained) -> list[str]:
    if not each.possible:
        return [paragraph("This encoder cannot be attributed: no gradient leads back to single items.")]
    regions = each.regions.mean()
    if regions is not None:
        shown = f"mean attribution of the regions of {each.regions.images:,} images"
        return [image(saliency_png(regions), shown), paragraph(_sums(each))]
    rows = each.table.rows
    if not rows:
        return [paragraph(f"Nothing here is of {LEAST} patients or more.")]
    bars = [(str(row[0]), float(row[2])) for row in rows[:_SHOWN]]
    cells = [[row[0], row[1], f"{row[2]:+.3f}", f"{row[3]:.3f}"] for row in rows[:_SHOWN]]
    picture = image(bars_png({each.title: bars}, "mean attribution"), ", ".join(f"{n} {v:+.3f}" for n, v in bars))
    note = [paragraph(each.table.note, "note")] if each.table.note else []
    return [picture, table(each.table.heads, cells), *note, paragraph(_sums(each))]


def _sums(each: Explained) -> str:
    """Say how well attributions add up, which they do exactly in the limit of many steps only."""
    if not each.said:
        return "Nothing here moves any prediction."
    share = each.missed / each.said
    text = f"Attributions miss what they should add up to by {share:.1%} in the mean"
    return f"{text}: read them as rough." if share > _ROUGH else f"{text}."


def saliency_png(regions: NDArray[Any]) -> bytes:
    """Draw where images count, over all patients. Shape: (H, W)."""
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(regions / max(float(np.max(regions)), 1e-12), cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(drawn, ax=axes, label="mean size of attribution, the largest is 1")
    return as_png(figure)

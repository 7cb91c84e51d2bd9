"""The page of what predictions rest on within each modality, and how much a fusion lets each count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.explaining.explained import Explained
from experiments.explaining.pictures import attributions_png, saliency_png
from experiments.explaining.tally import LEAST
from experiments.reporting.page import Part, image, page, paragraph
from experiments.reporting.table import table
from experiments.section import Table

if TYPE_CHECKING:
    from experiments.bundle import Predictor

_SHOWN = 20  # rows of a table on the page; its CSV has all


def explained_html(predictor: Predictor, found: Sequence[Explained], who: str, weights: Table | None, rows: int) -> str:
    """Return the page.

    Args:
        who: a line on whose predictions these are.
        weights: of the modalities in the fusion; None where it has none.
        rows: how many predictions there are.
    """
    scale = "in the target's unit, standardised" if predictor.task.kind == "regression" else "in log-odds"
    words = (
        "Integrated gradients: by how much a code, word, node or pixel moves the prediction "
        f"({scale}), from a patient of whom nobody knows what these are (their times and number stay) to the patient "
        "as is. A patient's attributions add up to that difference. Means are over the patients who have it; the size "
        "is the mean without signs, and the share its part of all that is moved. Nothing "
        f"is told of fewer than {LEAST} patients. Attributions say what the model uses, not what causes an outcome."
    )
    parts = [Part(f"What counts in {each.title}", _body(each)) for each in found]
    parts.append(
        Part("How much the fusion lets each modality count", _weights(predictor.architecture.fusion.name, weights))
    )
    opening = [paragraph(who), paragraph(words)]
    return page("What predictions rest on", f"{rows:,} predictions", parts, opening=opening)


def _body(each: Explained) -> list[str]:
    if each.why_not:
        return [paragraph(each.why_not)]
    regions = each.regions.mean()
    if regions is not None:
        shown = f"mean attribution of the regions of {each.regions.images:,} images"
        return [image(saliency_png(regions), shown, "The brighter, the more this region moves predictions."),
                paragraph(each.sums())]  # fmt: skip
    found, (top, _) = each.table, each.found
    if not top:
        return [paragraph(f"Nothing here is of {LEAST} patients or more.")]
    bars = [(each.label(row.name), row.mean, row.size) for row in top[:_SHOWN]]
    said = ", ".join(f"{name} {mean:+.3f}" for name, mean, _ in bars)
    words = [paragraph(_LINKS[each.links])] if each.links else []
    words += [paragraph(each.people)] if each.people else []
    note = [paragraph(found.note, "note")] if found.note else []
    rows = [_digits(row) for row in found.rows[:_SHOWN]]
    if len(found.rows) > _SHOWN:
        note.insert(0, paragraph(f"The first {_SHOWN} of {len(found.rows):,}; the CSV file has all.", "note"))
    return [*words, image(attributions_png(bars), said), table(found.heads, rows), *note, paragraph(each.sums())]


_LINKS = {
    "edges": (
        "What the model makes of the knowledge graph: an edge's part of the difference between a graph along which "
        "every message passes, both ways, and one along which none does. Patients are those with a code at the lower "
        "end of an edge or below it."
    ),
    "ancestors": (
        "What the model makes of the ontology: an ancestor's part of the difference between codes that hear of all "
        "their ancestors and codes that stand alone. Patients are those with a code below the ancestor."
    ),
}


def _digits(row: Sequence[Any]) -> list[str]:
    *names, patients, mean, size, share = row
    return [*names, f"{patients:,}", f"{mean:+.3f}", f"{size:.3f}", f"{share:.1%}"]


def _weights(fusion: str, weights: Table | None) -> list[str]:
    if weights is None:
        return [paragraph(f"Fusion '{fusion}' has no view of each modality, so there are no weights to show.")]
    if not weights.rows:
        return [paragraph(f"Nothing here is of {LEAST} patients or more.")]
    words = (
        "The weight of a modality's view, over predictions of patients who have the modality, and the tenths of them "
        "with the smallest and the largest. A weight says how far a view is let through, not how much there is in it."
    )
    cells = [[name, f"{count:,}", *(f"{value:.3f}" for value in rest)] for name, count, *rest in weights.rows]
    return [paragraph(words), table(weights.heads, cells)]

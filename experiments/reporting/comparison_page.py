"""The page of a comparison, from its verdict to how to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.drawing import architecture_svg
from experiments.reporting.cohort import cohort_body
from experiments.reporting.cost import cost_part
from experiments.reporting.gaps import folds_part, gaps_part
from experiments.reporting.leaderboard import leaderboard_part
from experiments.reporting.page import Part, page, paragraph, wide
from experiments.reporting.parts import remarks, section_part
from experiments.reporting.reproducibility import reproducibility_part
from experiments.reporting.table import facts, table
from experiments.reporting.tripod import tripod_part
from experiments.reporting.verdict import verdict_part

if TYPE_CHECKING:
    from experiments.comparison import Comparison
    from experiments.section import Section


def comparison_html(comparison: Comparison, sections: Sequence[Section] = ()) -> str:
    """Return the page; sections stand between what was found and how it was done."""
    about = comparison.about
    events = f", {about['events']} events" if "events" in about else ""
    folds = f"{about['folds']} folds x " if "folds" in about else ""
    lead = (
        f"{about.get('patients', '?')} held-out patients, {about.get('rows', '?')} predictions{events}; "
        f"{folds}{about.get('seeds', '?')} seeds; {about.get('resamples', '?')} resamples of patients"
    )
    warnings = about.get("warnings", ())
    found = [
        verdict_part(comparison),
        Part("Warnings", [remarks(warnings, "warnings")]) if warnings else None,
        leaderboard_part(comparison),
        gaps_part(comparison),
        folds_part(comparison),
        *(section_part(each) for each in sections),
        Part("Notes", [remarks(comparison.footnotes)]) if comparison.footnotes else None,
        _design(about),
        cost_part(comparison),
        reproducibility_part(comparison),
        tripod_part(comparison, sections),
    ]
    return page(f"Comparison: {about.get('name', '')}", lead, [part for part in found if part is not None])


def _design(about: Mapping[str, Any]) -> Part:
    """Return how it was done: what all strategies share, what nothing was chosen on, the architecture."""
    held = (
        "The held-out split served for this comparison only; no weights, epoch, setting or architecture was chosen on "
        "it."
    )
    if "folds" in about:
        held = "Each fold was held out of the training that predicts it; no weights or epoch was chosen on it."
    if about.get("folds_by") == "site":
        held += " Folds are of whole sites: no model is tested at a site that it learned from."
    words = (
        "Every strategy has the same encoders, patients, splits, seeds and budget; a control has no encoders and reads "
        f"the same codes. A modality that a patient lacks is masked, not imputed; nobody is left out for it. {held}"
    )
    body = [paragraph(words)]
    if about.get("architecture"):
        body.append(wide(architecture_svg(about["architecture"]), "architecture"))
    names = {"primary": "primary metric", "power": "power", "budget": "budget of a run", "audit": "leakage audit"}
    names["chosen"] = "chosen by the search"
    shown = {words: about.get(name) for name, words in names.items()}
    body.append(facts(shown | {"architecture": _architecture(about.get("architecture"))}))
    cohort = cohort_body(about.get("cohort", {}), about.get("flow", []))
    body += ["<h3>Who is predicted</h3>", *cohort] if cohort else []
    if about.get("work"):
        rows = [[name, f"{each['flops']:,.0f}", str(each["epochs"])] for name, each in about["work"].items()]
        body += ["<h3>Equal work</h3>", table(["strategy", "operations a patient", "epochs they buy"], rows)]
    return Part("How it was done", body)


def _architecture(architecture: Mapping[str, Any] | None) -> str:
    if not architecture:
        return ""
    encoders = ", ".join(f"{modality}: {_component(spec)}" for modality, spec in architecture["encoders"].items())
    return f"{encoders}; fusion: {_component(architecture['fusion'])}; width {architecture['dim']}"


def _component(spec: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name}={_short(value)}" for name, value in spec.items() if name != "name")
    return f"{spec['name']}({settings})" if settings else str(spec["name"])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

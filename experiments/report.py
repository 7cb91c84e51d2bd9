"""Self-contained pages: no script, no request to anywhere; they print, and follow a dark or light system."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.drawing import architecture_svg
from experiments.metrics import metric_name
from experiments.rank_diagram import rank_diagram_png
from experiments.statistics.intervals import Interval

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row
    from experiments.differences import AcrossFolds, Difference
    from experiments.section import Section

_CSS = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6472; --line: #d9dee6; --paper: #ffffff;
  --box: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #a3adbb; --line: #3a4250; --paper: #161a21; --box: #1f252e; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.lead { color: var(--soft); margin-top: 0; }
.verdict { background: var(--box); border-left: 4px solid #0072B2;
  padding: .8rem 1rem; border-radius: 4px; }
.warning { border-left-color: #D55E00; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%;
  font-size: .9rem; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: pre; } figure { margin: 1rem 0; }
img { max-width: 100%; background: #fff; border-radius: 6px; padding: .4rem; box-sizing: border-box; }
code { background: var(--box); padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
@media print { :root { --ink: #000; --soft: #444; --paper: #fff; --box: #fff; }
  .wide { overflow: visible; } body { margin: 0; max-width: none; } h2 { break-after: avoid; }
  img, tr, svg { break-inside: avoid; } }
"""


def comparison_html(comparison: Comparison, picture: bytes, sections: Sequence[Section] = ()) -> str:
    """Return the page of a comparison; sections stand between what was found and how it was done."""
    about = comparison.about
    events = f", {about['events']} events" if "events" in about else ""
    folds = f"{about['folds']} folds x " if "folds" in about else ""
    lead = (
        f"{about.get('patients', '?')} held-out patients, {about.get('rows', '?')} predictions{events}; "
        f"{folds}{about.get('seeds', '?')} seeds; {about.get('resamples', '?')} resamples of patients"
    )
    primary = metric_name(comparison.metric)
    metrics = list(dict.fromkeys(row.metric for row in comparison.rows))
    cells = {(row.strategy, row.metric): row for row in comparison.rows}
    rows = [
        [row.label] + [_interval(cells.get((row.strategy, metric))) for metric in metrics] + [_seed_spread(row)]
        for row in comparison.ranking()
    ]
    gaps = [_difference(each) for each in comparison.differences]
    parts = [
        f"<p class='verdict'>{_text(comparison.verdict())}</p>",
        *(f"<p class='verdict warning'>{_text(warning)}</p>" for warning in about.get("warnings", ())),
        image(picture, _described(comparison)),
        "<h2>Metrics</h2>",
        "<p>Mean over seeds, with its 95% interval over patients below. The last column is the spread over "
        "seeds, which the interval does not include.</p>",
        table(["strategy", *map(metric_name, metrics), f"seed SD of {primary}"], rows),
        f"<h2>Differences in {_text(primary)}</h2>",
        "<p>On the same resampled patients; the last p values are "
        "adjusted for all pairs of strategies, because who leads was seen first. An interval that "
        "includes zero shows no difference, which is not the same as showing that there is none. "
        f"{'Higher' if comparison.higher_is_better else 'Lower'} is better. The size of a lead is somewhat flattered, "
        "because the leader was found on these same patients.</p>",
        table(["first", "second", "first minus second", "p", "p (all pairs)", "shown?"], gaps),
        *_across_folds(comparison),
        *_uncertainty(comparison),
        *(part for each in sections for part in _section(each)),
        *([f"<h2>Notes</h2><ul>{_items(comparison.footnotes)}</ul>"] if comparison.footnotes else []),
        "<h2>How it was done</h2>",
        "<p>Every strategy has the same encoders, patients, splits, seeds and budget; a control has no encoders and "
        f"reads the same codes. {_split(about)}</p>",
        *([f"<figure>{architecture_svg(about['architecture'])}</figure>"] if about.get("architecture") else []),
        facts(
            {
                "primary metric": about.get("primary"),
                "power": about.get("power"),
                "budget of a run": about.get("budget"),
                "architecture": _architecture(about.get("architecture")),
                "data": about.get("data_fingerprint"),
                "splits": about.get("split_fingerprint"),
                "leakage audit": about.get("audit"),
                "code": about.get("git_commit"),
            }
        ),
    ]
    if about.get("work"):
        rows = [[name, f"{each['flops']:,.0f}", str(each["epochs"])] for name, each in about["work"].items()]
        parts += ["<h2>Equal work</h2>", table(["strategy", "operations a patient", "epochs they buy"], rows)]
    return page(f"Comparison: {about.get('name', '')}", lead, parts)


def _split(about: Mapping[str, Any]) -> str:
    """Say what nothing was chosen on."""
    if "folds" in about:
        return "Each fold was held out of the training that predicts it; no weights or epoch was chosen on it."
    return (
        "The held-out split served for this comparison only; no weights, epoch, setting or architecture was chosen on "
        "it."
    )


def _across_folds(comparison: Comparison) -> list[str]:
    """Return the part on folds: whether differences hold where models were trained on other patients."""
    rows = [_over_folds(each, each.across) for each in comparison.differences if each.across is not None]
    if not rows:
        return []
    parts = [
        "<h2>Across folds</h2>",
        "<p>Intervals and p values above are about patients, for the models that were trained. These are about "
        "training on other patients: a t test corrected for the training patients that folds share (Nadeau and "
        "Bengio), flips of the signs of folds, and how probably the first is lower, practically equal or higher "
        "(Bayesian signed ranks). Seeds of a fold count once.</p>",
        table(["first", "second", "95% interval", "same sign", "p (t)", "p (flips)", "lower, equal, higher"], rows),
    ]
    if comparison.ranks is not None:
        said = ", ".join(f"{n} {m:.2f}" for n, m in zip(comparison.ranks.names, comparison.ranks.means, strict=True))
        parts.append(image(rank_diagram_png(comparison.ranks), f"mean ranks over folds, 1 is best: {said}"))
    return parts


def _over_folds(each: Difference, over: AcrossFolds) -> list[str]:
    span = f"{over.low:+.3f} to {over.high:+.3f}" if math.isfinite(over.low) else "not defined"
    defined = over.practical is not None and math.isfinite(over.practical.equal)
    likely = ", ".join(f"{share:.0%}" for share in over.practical) if over.practical and defined else "no region stated"
    p_values = [f"{p:.3f}" if math.isfinite(p) else "not defined" for p in (over.p, over.p_flips)]
    return [each.first, each.second, span, f"{over.same_sign} of {over.folds}", *p_values, likely]


def _uncertainty(comparison: Comparison) -> list[str]:
    """Return the part on where the uncertainty of the primary metric comes from."""
    rows = [
        [row.label, *(f"{each:.4f}" for each in row.spread)]
        for row in comparison.ranking()
        if row.spread is not None and all(math.isfinite(each) for each in row.spread)
    ]
    if not rows:
        return []
    return [
        "<h2>Patients or seeds?</h2>",
        "<p>Standard deviations of one seed's score: by which patients were tested, by the seed itself, and by how "
        "differently the same patients fall out for other seeds; then the standard error of the mean over seeds, which "
        "holds all three.</p>",
        table(["strategy", "patients", "seeds", "both", "standard error"], rows),
    ]


def _section(section: Section) -> list[str]:
    """Return a section: its words, its pictures, then its tables."""
    parts = [f"<h2>{_text(section.title)}</h2>", *(f"<p>{_text(words)}</p>" for words in section.words)]
    parts += [image(*picture) for picture in section.pictures.values()]
    for each in section.tables.values():
        parts.append(table(each.heads, [[_cell(value) for value in row] for row in each.rows]))
        parts += [f"<p>{_text(each.note)}</p>"] if each.note else []
    return parts


def _cell(value: Any) -> str:
    """Return a cell: three decimals of a number that is not whole; an interval below its value."""
    if isinstance(value, Interval):
        known = math.isfinite(value.value) and (math.isfinite(value.low) or math.isfinite(value.high))
        return f"{_cell(value.value)}\n{_bound(value.low)} to {_bound(value.high)}" if known else _cell(value.value)
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if math.isfinite(value) else "not defined"


def _bound(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "no bound"


def _items(notes: Sequence[str]) -> str:
    return "".join(f"<li>{_text(note)}</li>" for note in notes)


def page(title: str, lead: str, parts: Sequence[str]) -> str:
    """Return a whole page."""
    viewport = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    head = f"{viewport}<title>{_text(title)}</title><style>{_CSS}</style>"
    body = f"<h1>{_text(title)}</h1><p class='lead'>{_text(lead)}</p>" + "\n".join(parts)
    return f"<!doctype html>\n<html lang='en'><head>{head}</head>\n<body>{body}</body></html>\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; its cells are escaped."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th scope='col'>{_text(each)}</th>" for each in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class='number'>{_text(cell)}</td>" if _numeric(cell) else f"<td>{_text(cell)}</td>" for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def facts(pairs: Mapping[str, Any]) -> str:
    """Return a table of names and values; what is not known is left out."""
    rows = "".join(
        f"<tr><th scope='row'>{_text(name)}</th><td><code>{_text(value)}</code></td></tr>"
        for name, value in pairs.items()
        if value
    )
    return f"<table><tbody>{rows}</tbody></table>"


def image(png: bytes, description: str) -> str:
    """Return a picture inside the page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f"<p><img alt='{_text(description)}' src='{source}'></p>"


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


def _interval(row: Any) -> str:
    if row is None or not math.isfinite(row.value):
        return "not defined"
    return f"{row.value:.3f}\n{row.low:.3f} to {row.high:.3f}"


def _seed_spread(row: Row) -> str:
    if len(row.seeds) < 2:
        return "one seed"
    return f"{row.seed_sd:.3f}\n{len(row.seeds)} seeds" if math.isfinite(row.seed_sd) else "not defined"


def _difference(each: Difference) -> list[str]:
    """Return the cells of a difference; it is shown where neither the interval nor the p value doubts it."""
    if not math.isfinite(each.value) or not math.isfinite(each.p_all):
        return [each.first, each.second, "not defined", "", "", ""]
    span = f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
    verdict = "yes" if each.shown else "no difference shown"
    return [each.first, each.second, span, f"{each.p:.3f}", f"{each.p_all:.3f}", verdict]


def _described(comparison: Comparison) -> str:
    """Say in words what the picture shows."""
    values = ", ".join(f"{row.strategy} {_described_row(row)}" for row in comparison.ranking())
    return f"{metric_name(comparison.metric)} of each strategy with its 95% interval: {values}"


def _described_row(row: Row) -> str:
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" if math.isfinite(row.value) else "not defined"


def _numeric(cell: Any) -> bool:
    return str(cell)[:1] in "+-0123456789" if str(cell) else False


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)

"""The model card: what a model is, what it was trained and tested on, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.readability import readability

LIMITS = """\
This is a research model. It was chosen on the tuning split. It was tested once, on patients of the same source.
Expect it to do worse in other places and in later years. It is not a medical device and must not decide about
care on its own. Check its risks on your own patients first, also group by group. What it learned from is not
the cause of what it predicts."""

MISSING = """\
What a patient lacks is masked. Nothing is filled in. The model reads {modalities}, and each may be absent. A
patient with none of them gets the answer to an empty record. Codes that were not there in training count as
unknown. `ehrfusion predict` says how much of a folder the model knows."""

INTERVALS = "Intervals, where given, are over patients."

LEAST_EASE = 55.0
"""Flesch's reading ease that the prose of a card must have: 60 and more is plain English."""

SHOWN = {
    "dataset": "Dataset",
    "label": "Label",
    "window_days": "Days of history read",
    "data_fingerprint": "Data fingerprint",
    "split_fingerprint": "Split fingerprint",
    "audit": "Leakage audit",
    "code_vocabulary": "Codes known",
    "code_vocabulary_sha256": "Codes, sha256",
    "git_commit": "Code, git commit",
    "seed": "Seed",
    "study": "Study",
    "parameters": "Parameters",
}


def model_card(description: Mapping[str, Any]) -> str:
    """Return the card of a bundle's description as Markdown; it holds no patient data."""
    contract, task = description["contract"], description["task"]
    title = contract.get("name") or contract.get("label") or "model"
    modalities = list(description["architecture"]["encoders"])
    sections = [
        f"# {title}\n\n{_task(task)}",
        "## Intended use and limits\n\n" + LIMITS,
        "## Architecture\n\n" + "\n".join(_architecture(description["architecture"])),
        "## Data\n\n" + _table(("", ""), list(_contract(contract))),
    ]
    if cohort := contract.get("cohort"):
        rows = [(str(name), _number(value)) for name, value in cohort.items()]
        sections.append("## Cohort\n\n" + _table(("split or group", "patients"), rows))
    sections.append("## Performance on the held-out split\n\n" + _metrics(description["metrics"]))
    sections.append("## Missing modalities\n\n" + MISSING.format(modalities=_and(modalities)))
    if codes := contract.get("codes_in_words"):
        sections.append("## What the codes mean\n\n" + _codes(codes))
    if training := contract.get("training"):
        rows = [(str(name), _number(value)) for name, value in training.items() if value is not None]
        sections.append("## Training\n\n" + _table(("setting", "value"), rows))
    if versions := contract.get("versions"):
        rows = [(str(name), str(value)) for name, value in versions.items()]
        sections.append("## Software\n\n" + _table(("package", "version"), rows))
    found = readability(card_prose(description))
    foot = f"Flesch reading ease of this card's prose: {found.ease:.0f} (60 and more is plain English)"
    sections.append(f"---\n\n{foot}; school grade by Flesch and Kincaid: {found.grade:.0f}.")
    return "\n\n".join(sections) + "\n"


def card_prose(description: Mapping[str, Any]) -> str:
    """Return the sentences of a card, without its tables and lists."""
    missing = MISSING.format(modalities=_and(list(description["architecture"]["encoders"])))
    return " ".join([_task(description["task"]), LIMITS, missing, INTERVALS if description["metrics"] else ""])


def _codes(codes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the most frequent codes of each category with what they mean."""
    lines = [
        f"- {category}: " + "; ".join(f"`{code}` {' '.join(words.split())}" for code, words in mine.items())
        for category, mine in codes.items()
    ]
    return "\n".join(["The most frequent codes of the training split, category by category:", "", *lines])


def _task(task: Mapping[str, Any]) -> str:
    names = ", ".join(task["names"])
    return {
        "binary": "Predicts the probability of a yes-or-no outcome.",
        "multiclass": f"Predicts the probability of each of these exclusive classes: {names}.",
        "multilabel": f"Predicts the probability of each of these labels: {names}.",
        "regression": "Predicts a number, in the unit of the label.",
    }[task["kind"]]


def _architecture(architecture: Mapping[str, Any]) -> Iterator[str]:
    for modality, spec in architecture["encoders"].items():
        yield f"- {modality}: {_component(spec)}"
    yield f"- fusion: {_component(architecture['fusion'])}"
    yield f"- width: {architecture['dim']}"
    if "head" in architecture:  # a linear one is not mentioned; molecules of every label would be a page
        yield f"- head: `{architecture['head']['name']}`"


def _component(spec: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {_number(value)}" for key, value in spec.items() if key != "name")
    return f"`{spec['name']}`" + (f" ({rest})" if rest else "")


def _contract(contract: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, words in SHOWN.items():
        if contract.get(key) is not None:
            yield words, _number(contract[key])
    for modality, each in (contract.get("pretrained") or {}).items():
        yield f"Pre-trained {modality}", str(each)
    if "window_days" in contract and contract["window_days"] is None:
        yield SHOWN["window_days"], "all before the prediction time"


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, each in metrics.items():
        interval = ""
        if isinstance(each, Mapping):
            low, high, each = each.get("low"), each.get("high"), each.get("value")
            interval = f"{_number(low)} to {_number(high)}" if low is not None and high is not None else ""
        if each is not None:
            rows.append((name, _number(each), interval))
    if not rows:
        return "Not evaluated."
    return _table(("metric", "value", "95% interval"), rows) + "\n\n" + INTERVALS


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "/").replace("\n", " ")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Tasks and what came of them, for the terminal and for docs/tasks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.tasks.definition import Hourly, LabelRule, Predicate, Step, TaskDefinition
from experiments.tasks.load import load_task, task_names

ALWAYS = "no encoder is given anything dated after the prediction (held by the reader, looked at by `ehrfusion audit`)"


def render_list() -> Any:
    """Return all tasks by name, one line each."""
    from rich.table import Table

    table = Table("task", "what is predicted", "kind", title="clinical tasks; more of one: ehrfusion tasks NAME")
    for name in task_names():
        task = load_task(name)
        table.add_row(name, task.title, task.label.kind)
    return table


def render_task(task: TaskDefinition) -> Any:
    """Return everything that a task says."""
    from rich.table import Table

    table = Table(show_header=False, title=task.name, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for head, text in _lines(task):
        table.add_row(head, text)
    return table


def _lines(task: TaskDefinition) -> Iterator[tuple[str, str]]:
    yield "predicts", f"{task.title} ({task.label.kind})"
    source = task.source
    yield "source", f"{source.authors}: {source.title}. {source.year}"
    if source.differs:
        yield "differs", " ".join(source.differs.split())
    if task.index is not None:
        yield "a row is", index_text(task)
        yield "predicted at", predict_text(task)
    yield "label", label_text(task.label)
    for head, steps in (("who goes on", task.require), ("leak rules", task.leaks)):
        for place, step in enumerate(steps):
            yield head if not place else "", f"{step.keep}  [{step_text(step)}]".replace("[", "\\[")
    yield "" if task.leaks else "leak rules", ALWAYS
    for place, (name, predicate) in enumerate(task.predicates.items()):
        yield "events" if not place else "", f"{name}: {predicate_text(predicate)}"
    for pattern, why in task.not_for.items():
        yield "not on", f"{pattern.rstrip('*')}: {why}"
    if task.notes:
        yield "notes", " ".join(task.notes.split())


def index_text(task: TaskDefinition) -> str:
    """Say what makes a row."""
    assert task.index is not None
    what = task.index.at or f"each stay from {task.index.start} to {task.index.end}"
    return f"{'each ' if task.index.at else ''}{what}" + ("; a patient's first only" if task.counts == "first" else "")


def predict_text(task: TaskDefinition) -> str:
    """Say when is predicted."""
    if isinstance(task.predict, Hourly):
        return f"every {task.predict.every} from {task.predict.first} until {task.predict.until}"
    return task.predict or "what the converter wrote"


def label_text(rule: LabelRule) -> str:
    """Say what the truth is."""
    if rule.given:
        return f"the label {rule.given} that the converter writes"
    if rule.longer_than:
        return f"end - start > {rule.longer_than}"
    if rule.classes:
        return f"end - start in classes that begin at {', '.join(rule.classes)}"
    what = rule.any or f"each group of {rule.each}" + (f" ({len(rule.of)} of them)" if rule.of else "")
    least = f", had by at least {rule.least} rows of training patients" if rule.each else ""
    until = f"; seen until {rule.observed}" if rule.observed else ""
    unseen = f"; unseen: {rule.unseen}" if rule.unseen != "left out" else ""
    return f"{what} in {rule.within}{least}{until}{unseen}"


def step_text(step: Step) -> str:
    """Say how a step is decided."""
    if step.holds:
        return step.holds
    if step.known:
        return f"{step.known} is recorded"
    if step.age_from is not None:
        return f"age at start >= {step.age_from:g}, or not recorded"
    return f"{'some' if step.any else 'no'} {step.any or step.none} in {step.within}"


def predicate_text(predicate: Predicate) -> str:
    """Say which events are meant."""
    text = ", ".join(predicate.codes) + (f" but not {', '.join(predicate.but_not)}" if predicate.but_not else "")
    limits = predicate.value.model_dump(exclude_none=True) if predicate.value else {}
    return text + "".join(f", {name.replace('_', ' ')} {limit:g}" for name, limit in limits.items())


def render_result(about: Mapping[str, Any]) -> Any:
    """Return the flow, the patterns and the classes of a labelled folder."""
    from rich.console import Group
    from rich.table import Table

    flow = Table(title=f"{about['task']}: who is predicted")
    for name in ("step", "rows", "patients", "left out"):
        flow.add_column(name, justify="left" if name == "step" else "right")
    for step in about["flow"]:
        said = f", {step['positive']} positive" if "positive" in step else ""
        flow.add_row(step["step"] + said, step["n"], step["patients"], step.get("left_out", ""))
    kinds = list(about["patterns"][0]["has"])
    extra = [key for key in about["patterns"][0] if key not in ("has", "n", "patients")]
    patterns = Table(title="who has what at the prediction; nobody is left out for it")
    for name in (*kinds, "rows", "patients", *extra):
        patterns.add_column(name, min_width=max(map(len, name.split())))  # a narrow terminal cuts no word of a heading
    for row in about["patterns"]:
        marks = ["yes" if row["has"][kind] else "-" for kind in kinds]
        patterns.add_row(*marks, row["n"], row["patients"], *(row.get(key, "") for key in extra))
    parts: list[Any] = [flow, patterns]
    if about["classes"]:
        classes = Table("class or label", "rows", title="how many have what")
        for name, count in about["classes"].items():
            classes.add_row(name, count)
        parts.append(classes)
    parts += _remarks(about)
    return Group(*parts)


def _remarks(about: Mapping[str, Any]) -> Iterator[str]:
    if about["left_out_labels"]:
        yield f"{about['left_out_labels']} groups are no labels: too few training patients have them"
    if about["assumed"] != "0":
        yield f"{about['assumed']} rows are negative as nothing was seen; that they were followed so long is assumed"
    if "interactions" in about:
        rate = about["interactions"]
        said = "no two classes are given together" if rate is None else f"{rate:.1%} of the pairs given together"
        yield f"interactions among what was given: {said}"


def tasks_markdown() -> str:
    """Return the table of tasks as docs/tasks.md has it."""
    lines = ["| task | what is predicted | a row is | predicted at | label | defined by |", "|---|---|---|---|---|---|"]
    for name in task_names():
        task = load_task(name)
        row = index_text(task) if task.index else "a row of the label"
        source = f"{task.source.authors} {task.source.year}"
        cells = [f"`{name}`", task.title, row, f"`{predict_text(task)}`", f"`{label_text(task.label)}`", source]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"

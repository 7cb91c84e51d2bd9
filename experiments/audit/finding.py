"""What an audit found: where, how bad, and what to do; row numbers and counts only, never a patient or a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from numpy.typing import ArrayLike

Severity: TypeAlias = Literal["error", "warning"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning")

_SHOWN = 3  # row numbers that a line names


@dataclass(frozen=True)
class Finding:
    """Something that leaks, or may: the place, what is wrong, and what to do about it."""

    severity: Severity
    where: str
    what: str
    advice: str


class Outcome(NamedTuple):
    """What one check measured, in words, and what it found."""

    measured: str
    findings: Sequence[Finding] = ()


class Skipped(Exception):
    """A check has nothing to look at; the text says why."""


@dataclass(frozen=True)
class Line:
    """One check of an audit: whether it ran, what it measured and what it found."""

    check: str
    status: Literal["passed", "warning", "error", "skipped"]
    measured: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Audit:
    """All checks of one audit, and which data, code and prepared tensors they looked at."""

    name: str
    lines: tuple[Line, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no check found an error."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[tuple[str, Finding]]:
        """Return (check, finding) of a severity, in the order of the checks."""
        return [(line.check, each) for line in self.lines for each in line.findings if each.severity == severity]

    def summary(self) -> str:
        """Say in one line how it ended."""
        ran = sum(line.status != "skipped" for line in self.lines)
        verdict = "passed" if self.ok else "failed"
        return f"{verdict}: {ran} checks, {len(self.of('error'))} errors, {len(self.of('warning'))} warnings"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"summary": self.summary(), **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Audit:
        """Rebuild from `to_dict`."""
        lines = [{**each, "findings": tuple(Finding(**found) for found in each["findings"])} for each in data["lines"]]
        return cls(data["name"], tuple(Line(**each) for each in lines), data["about"])

    def render(self) -> Any:
        """Return rich tables: what each check measured, then what was found and what to do."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        checks = Table("check", "", "what was looked at", title=f"leakage audit of {self.name}")
        for line in self.lines:
            checks.add_row(line.check, line.status, line.measured)
        found = Table("", "check", "where", "what", "what to do")
        for severity in SEVERITIES:
            for check, each in self.of(severity):
                found.add_row(severity, check, Text(each.where), Text(each.what), each.advice)
        return Group(checks, *([found] if found.rows else []), self.summary())


def rows_text(rows: ArrayLike) -> str:
    """Name rows of the cohort: the first ones, and how many more.

    Rows are those of the label file, sorted by patient and time, counted from 0.

    Examples:
        >>> rows_text([4, 9]), rows_text([3, 5, 8, 13, 21])
        ('cohort rows 4, 9', 'cohort rows 3, 5, 8 and 2 more')
    """
    import numpy as np

    found = np.unique(np.asarray(rows)).tolist()
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return f"cohort row{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:_SHOWN]))}{more}"

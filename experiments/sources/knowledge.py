"""What is above codes, and what they are called: path prefixes, the ICD hierarchy, groups of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experiments.sources import channels
from experiments.sources.icd import icd_description, icd_parent

_PATHS = ("DX//", "TREATMENT//", "ADMISSION_DX//", "HISTORY//", "EXAM//")


def parent(code: str, groups: dict[str, str]) -> str | None:
    """Return the code above, if any.

    Examples:
        >>> parent("DX//cardiovascular|shock", {}), parent("INFUSION//propofol (ml/hr)", {})
        ('DX//cardiovascular', 'INFUSION//propofol')
    """
    if code in groups:
        return groups[code]
    vocabulary, _, rest = code.partition("//")
    if code.startswith(_PATHS):
        return code.rsplit("|", 1)[0] if "|" in rest else None
    if vocabulary == "INFUSION":
        return code.rsplit(" (", 1)[0] if " (" in rest else None
    if vocabulary in ("LAB", "VITAL", "APACHE") and rest:
        return vocabulary
    if vocabulary == "HOME_DRUG":
        return code.removeprefix("HOME_")
    return icd_parent(code)


def hierarchy(
    codes: Iterable[str], parent: Callable[[str, dict[str, str]], str | None] = parent
) -> dict[str, list[str]]:
    """Return the parents of codes and of all their ancestors."""
    groups = channels.parents()
    found: dict[str, list[str]] = {}
    waiting = list(codes)
    while waiting:
        code = waiting.pop()
        if code in found:
            continue
        above = parent(code, groups)
        found[code] = [] if above is None else [above]
        waiting += found[code]
    return found


def describe(codes: Iterable[str], drugs: dict[str, str]) -> dict[str, str]:
    """Return what codes mean, where their text does not say it alone: drug numbers, chapters, paths."""
    found: dict[str, str] = {}
    for code in codes:
        vocabulary, _, rest = code.partition("//")
        if code in drugs:
            found[code] = drugs[code]
        elif vocabulary == "HOME_DRUG":
            name = drugs.get(code.removeprefix("HOME_")) or rest.rsplit("//", 1)[-1]
            found[code] = f"taken before admission: {name}"
        elif text := icd_description(code):
            found[code] = text
        elif code.startswith(_PATHS):
            found[code] = ": ".join(rest.rsplit("|", 2)[-2:])
        elif vocabulary in ("LAB", "VITAL", "APACHE", "INFUSION") and rest:
            found[code] = rest.replace("_", " ")
    return found

"""Groups of codes that are labels: CCS groups of diagnoses, classes of drugs, a person's own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

from experiments.tasks.predicates import pattern
from fusion.component import UsageError, unknown

_COLUMNS = ("group", "name", "vocabulary", "codes")
_ICD = re.compile(r"(?:DIAGNOSIS//ICD//(9|10)//|ICD(9|10)CM(?://|/))([A-Z0-9.]+)", re.IGNORECASE)
_DRUG = re.compile(r"(DRUG|INFUSION|MEDICATION)//", re.IGNORECASE)  # not HOME_DRUG: what was taken before admission
_VOCABULARIES = ("ICD9CM", "ICD10CM", "drug", "code")


@dataclass(frozen=True)
class Groups:
    """Named groups, and which codes belong to each.

    A vocabulary says how codes are written: ICD9CM and ICD10CM as prefixes without the point, of which the longest
    counts; `drug` as words of a drug's name; `code` as patterns in which `*` is any text.
    """

    names: Mapping[str, str]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]

    def of(self, wanted: Iterable[str]) -> Groups:
        """Return only some groups, by number or name.

        Raises:
            UsageError: there is no such group.
        """
        known = dict(self.names) | {name: name for name in self.names.values()}
        for each in wanted:
            if each not in known:
                raise unknown("group", each, list(known))
        mine = {key: name for key, name in self.names.items() if key in wanted or name in wanted}
        return Groups(mine, tuple(row for row in self.rows if row[0] in mine))

    def members(self, codes: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the groups of each code that has some.

        Args:
            codes: codes and what they mean; drugs are known by either.
        """
        found = {code: sorted(self._groups(code, text)) for code, text in codes.items()}
        return {code: groups for code, groups in found.items() if groups}

    def _groups(self, code: str, text: str) -> set[str]:
        found = {group for group, matches in self._patterns if matches.fullmatch(code)}
        if icd := _ICD.fullmatch(code):
            vocabulary, bare = f"ICD{icd[1] or icd[2]}CM", icd[3].replace(".", "").upper()
            ends = range(len(bare), 0, -1)
            longest = next((key for end in ends if (key := (vocabulary, bare[:end])) in self._prefixes), None)
            found |= {self._prefixes[longest]} if longest else set()
        if _DRUG.match(code):
            words = f"{code} {text}"
            found |= {group for group, drug in self._drugs if drug.search(words)}
        return found

    @cached_property
    def _prefixes(self) -> dict[tuple[str, str], str]:
        return {(kind, each): group for group, kind, codes in self.rows if kind.startswith("ICD") for each in codes}

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        return [(group, pattern(each)) for group, kind, codes in self.rows if kind == "code" for each in codes]

    @cached_property
    def _drugs(self) -> list[tuple[str, re.Pattern[str]]]:
        found = []
        for group, kind, codes in self.rows:
            if kind == "drug":
                words = "|".join(re.escape(each) for each in codes)
                found.append((group, re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE)))
        return found


def load_groups(source: str) -> Groups:
    """Read groups by the name of a table of the package (`ccs`, `drug_classes`), or from a CSV file.

    Raises:
        UsageError: there is no such table, or a line of it is wrong.
    """
    folder = resources.files("experiments") / "tasks" / "groups"
    known = sorted(each.name.removesuffix(".csv") for each in folder.iterdir() if each.name.endswith(".csv"))
    if source in known:
        return _shipped(source)
    if not source.endswith(".csv"):
        raise unknown("table of groups", source, known)
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        return _parsed(path.read_text(encoding="utf-8"), source)
    except ValueError:
        raise UsageError(f"{path}: not readable as CSV: it is no UTF-8 text") from None


@cache
def _shipped(name: str) -> Groups:
    path = resources.files("experiments") / "tasks" / "groups" / f"{name}.csv"
    return _parsed(path.read_text(encoding="utf-8"), name)


def _parsed(text: str, where: str) -> Groups:
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    if tuple(lines.fieldnames or ()) != _COLUMNS:
        raise UsageError(f"{where}: expected the columns {', '.join(_COLUMNS)}; got {lines.fieldnames}")
    names: dict[str, str] = {}
    rows = []
    for place, line in enumerate(lines, start=1):
        if line["vocabulary"] not in _VOCABULARIES or not line["codes"]:
            wanted = f"a vocabulary ({', '.join(_VOCABULARIES)}) and codes with ';' between"
            raise UsageError(f"{where}: row {place}: expected {wanted}; got '{line['vocabulary']}'")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", line["group"] or ""):
            raise UsageError(f"{where}: row {place}: a group is called by letters, digits, _ and -")
        names[line["group"]] = line["name"]
        rows.append((line["group"], line["vocabulary"], tuple(each.strip() for each in line["codes"].split(";"))))
    return Groups(names, tuple(rows))

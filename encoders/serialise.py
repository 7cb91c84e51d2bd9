"""A record as text: the same record gives the same text, and nothing from after the prediction time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from encoders.limits import at_least
from encoders.phrases import name_code, say_values, say_when
from encoders.records import Image, Measure, Note, Record
from fusion.component import UsageError, unknown


class Block(NamedTuple):
    """A part of the text: its heading, what it says where nothing is known, and the code prefixes that belong to it."""

    heading: str
    empty: str
    prefixes: frozenset[str]


def _block(heading: str, empty: str, prefixes: str = "") -> Block:
    return Block(heading, f"No {empty} is recorded.", frozenset(prefixes.split()))


BLOCKS: dict[str, Block] = {
    "demographics": _block(
        "Demographics",
        "demographic fact",
        "AGE GENDER SEX ETHNICITY RACE MEDS_BIRTH MARITAL_STATUS LANGUAGE INSURANCE",
    ),
    "diagnoses": _block(
        "Diagnoses",
        "diagnosis",
        "ICD ICD9CM ICD10CM ICD10 DX ADMISSION_DX DIAGNOSIS CONDITION HISTORY ALLERGY SNOMED PHECODE HPO",
    ),
    "drugs": _block(
        "Drugs",
        "medication",
        "ATC DRUG HOME_DRUG INFUSION INFUSION_START INFUSION_END MEDICATION RXNORM NDC VACCINE",
    ),
    "laboratory": _block("Laboratory values", "laboratory value", "LAB LOINC"),
    "vitals": _block("Vital signs", "vital sign", "VITAL"),
    "procedures": _block("Procedures", "procedure", "PROCEDURE ICD9PROC ICD10PCS CPT CPT4 HCPCS TREATMENT"),
    "other": _block("Other events", "other event"),
}
"""The parts of the text in their order. A code belongs to the block that lists what stands before its first `//`, in
upper case; admissions, scores, examinations and whatever no block lists are `other`."""

NOTES, IMAGES = "notes", "images"
SECTIONS = (*BLOCKS, NOTES, IMAGES)
"""All that a text can have. Notes and images are left out unless asked for: other encoders read them."""

_BLOCK_OF = {prefix: name for name, block in BLOCKS.items() for prefix in block.prefixes}
_HEAD = "# Patient record\n\nTimes count back from the time of the prediction.\n"


@dataclass(frozen=True)
class TextOptions:
    """Which sections are written, in how many lines or notes each at most, and how many last values of a measurement.

    Raises:
        UsageError: an unknown section, no section, or no line or no value.
    """

    sections: tuple[str, ...] = tuple(BLOCKS)
    max_lines: int = 32
    last_values: int = 3

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                raise unknown("section", name, SECTIONS, "text")
        if not self.sections:
            raise UsageError(f"text: no section; choose among {', '.join(SECTIONS)}")
        at_least("max_lines", self.max_lines, 1)
        at_least("last_values", self.last_values, 1)


DEFAULT = TextOptions()
_NO_MEASURES: Mapping[str, Measure] = MappingProxyType({})
_NO_MEASURE = Measure()


class _Event(NamedTuple):
    days: float
    value: float | None


def write_record(
    record: Record,
    descriptions: Mapping[str, str],
    options: TextOptions = DEFAULT,
    measures: Mapping[str, Measure] = _NO_MEASURES,
) -> str:
    """Write a record as one Markdown text, a section a block; a section of which nothing is known says so.

    Raises:
        UsageError: an event, a note or an image is from after the prediction time.

    Reference:
        Hegselmann et al., Large Language Models are Powerful Electronic Health Record Encoders, 2025 (here times are
        relative and values have a trend beside their rating; visits are events like others).
    """
    texts = write_blocks(record, descriptions, options, measures)
    parts = [_HEAD, *(f"## {BLOCKS[name].heading}\n\n{text}\n" for name, text in texts.items())]
    if NOTES in options.sections:
        parts.append("\n".join(["## Notes\n", *_notes(record.notes, options.max_lines)]))
    if IMAGES in options.sections:
        parts.append("\n".join(["## Images\n", *_images(record.images, options.max_lines), ""]))
    return "\n".join(parts)


def write_blocks(
    record: Record,
    descriptions: Mapping[str, str],
    options: TextOptions = DEFAULT,
    measures: Mapping[str, Measure] = _NO_MEASURES,
) -> dict[str, str]:
    """Write coded events as one text a block; a block without events says so in a sentence.

    Raises:
        UsageError: an event is from after the prediction time.
    """
    groups: dict[str, dict[tuple[str, str], list[_Event]]] = {name: {} for name in BLOCKS}
    for code, events in _by_code(record).items():
        valued = any(event.value is not None for event in events)
        # codes of one meaning are one line; measurements are not, for their units may differ
        key = name_code(code, descriptions), code if valued else ""
        groups[find_block(code)].setdefault(key, []).extend(events)
    return {name: _write(BLOCKS[name], groups[name], options, measures) for name in BLOCKS if name in options.sections}


def find_block(code: str) -> str:
    """Return the block a code belongs to.

    Examples:
        >>> find_block("VITAL//heart_rate"), find_block("HOSPITAL_ADMISSION//Emergency")
        ('vitals', 'other')
    """
    return _BLOCK_OF.get(code.partition("//")[0].upper(), "other")


def _by_code(record: Record) -> dict[str, list[_Event]]:
    """Return each code's events; what is written twice is one event."""
    codes, days, values = record.codes
    found: dict[str, set[_Event]] = {}
    for place, (code, day, value) in enumerate(zip(codes, days.tolist(), values.tolist(), strict=True)):
        _check_past(f"event {place}", day)
        found.setdefault(str(code), set()).add(_Event(day, value if math.isfinite(value) else None))
    return {code: list(events) for code, events in found.items()}


def _check_past(what: str, days: float) -> None:
    if not days >= 0:
        raise UsageError(
            f"{what} of a record lies {-days:g} days after the prediction time; a record holds nothing from after it"
        )


def _write(
    block: Block,
    groups: Mapping[tuple[str, str], Iterable[_Event]],
    options: TextOptions,
    measures: Mapping[str, Measure],
) -> str:
    """Write the lines of a block, what happened last first."""
    if not groups:
        return block.empty
    lines = []
    for (name, code), events in groups.items():
        # oldest first; events of one time by their value, so that their order in the record changes nothing
        ordered = sorted(set(events), key=lambda event: (-event.days, event.value or 0.0))
        lines.append((ordered[-1].days, name, code, ordered))
    lines.sort(key=lambda line: line[:3])
    written = [
        f"- {name}{_say(name, events, options.last_values, measures.get(code, _NO_MEASURE))}"
        for _, name, code, events in lines[: options.max_lines]
    ]
    return "\n".join([*written, *_more(len(lines) - len(written))])


def _say(name: str, events: Sequence[_Event], most: int, measure: Measure) -> str:
    """Say the last values of oldest-first events, and when they were; a single event at 0 is a fact of no time."""
    measured = [event for event in events if event.value is not None]
    values = [event.value for event in measured if event.value is not None][-most:]
    text = f": {say_values(name, values, measure)}" if values else ""
    told = measured or events
    times = sorted({event.days for event in told}, reverse=True)
    if len(times) > 1:
        return f"{text}; {len(times)} times, first {say_when(times[0])}, last {say_when(times[-1])}"
    return f"{text}; {say_when(times[0])}" if times[0] > 0 else text


def _notes(notes: Sequence[Note], most: int) -> Iterator[str]:
    """Yield the newest notes, last first, each quoted: what a note says can be no heading of the record."""
    for place, note in enumerate(notes):
        _check_past(f"note {place}", note.days)
    newest = sorted(set(notes), key=lambda note: (note.days, note.kind, note.text))
    for note in newest[:most]:
        yield f"### {name_code(note.kind, {}) or 'note'}; {say_when(note.days)}\n"
        yield "".join(f"> {line}".rstrip() + "\n" for line in note.text.splitlines() or [""])
    yield from _more(len(newest) - most) if newest else ["No note is recorded.\n"]


def _images(images: Sequence[Image], most: int) -> Iterator[str]:
    """Yield that there are images, newest first: their view and time, not their file."""
    for place, image in enumerate(images):
        _check_past(f"image {place}", image.days)
    lines = sorted((image.days, name_code(image.view, {}) or "image") for image in images)
    yield from (f"- {view}; {say_when(days)}" for days, view in lines[:most])
    yield from _more(len(lines) - most) if lines else ["No image is recorded."]


def _more(count: int) -> list[str]:
    return [f"- and {count} more"] if count > 0 else []

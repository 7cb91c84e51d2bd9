"""What a record is told with: descriptions of codes, units and reference ranges, and which sections there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from encoders.limits import at_least
from encoders.records import Knowledge, Measure, Record
from encoders.serialise import BLOCKS, TextOptions, write_blocks, write_record
from fusion.component import UsageError


@dataclass(frozen=True)
class Wording:
    """Writes records, with all that a text hangs on beside the record itself."""

    descriptions: Mapping[str, str]
    measures: Mapping[str, Measure] = field(default_factory=dict)
    text: TextOptions = field(default_factory=TextOptions)

    @classmethod
    def of(cls, knowledge: Knowledge, codes: Iterable[str], text: TextOptions, max_codes: int) -> Self:
        """Keep what is known of some codes, and the descriptions of `max_codes` others."""
        at_least("max_codes", max_codes, 0)
        mine = sorted(codes)
        more = sorted(knowledge.descriptions.keys() - set(mine))[:max_codes]
        told = {code: knowledge.descriptions[code] for code in [*mine, *more] if code in knowledge.descriptions}
        measures = {code: knowledge.measures[code] for code in [*mine, *more] if code in knowledge.measures}
        return cls(told, measures, text)

    def blocks(self, record: Record) -> dict[str, str]:
        """Write coded events as one text a block."""
        return write_blocks(record, self.descriptions, self.text, self.measures)

    def whole(self, record: Record) -> str:
        """Write a record as one text."""
        return write_record(record, self.descriptions, self.text, self.measures)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "descriptions": dict(self.descriptions),
            "measures": {code: list(measure) for code, measure in self.measures.items()},
            "sections": list(self.text.sections),
            "max_lines": self.text.max_lines,
            "last_values": self.text.last_values,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`; models saved before there were units and sections have neither."""
        text = TextOptions(tuple(data.get("sections", BLOCKS)), data["max_lines"], data["last_values"])
        measures = {code: Measure(*each) for code, each in data.get("measures", {}).items()}
        return cls(dict(data["descriptions"]), measures, text)


def coded_sections(text: str) -> tuple[str, ...]:
    """Return the blocks of coded events that a text with commas names; none are all.

    Raises:
        UsageError: it names notes or images, which are modalities of their own.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())) or tuple(BLOCKS)
    options = TextOptions(chosen)
    for name in options.sections:
        if name not in BLOCKS:
            raise UsageError(
                f"sections: {name} are a modality of their own; an encoder of codes reads {', '.join(BLOCKS)}"
            )
    return chosen

"""What was found of one modality, or of the edges of its graph, for one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.explaining.attribution import Attribution, is_rough
from experiments.explaining.rolling import roll_up
from experiments.explaining.tally import LEAST, Attributed, Name, Saliency, Tally
from experiments.section import Table

_ROUGH = 0.1
_KINDS = {"codes": "code", "notes": "word", "graph": "node", "images": "region"}
_LABEL = 52  # letters beside a bar


@dataclass
class Explained:
    """Attributions put together over patients.

    `links` is `edges` or `ancestors` where it is these that are attributed; `output` has a name where there are
    several; `why_not` says why there is nothing, `people` of whom it is, where not of all.
    """

    modality: str
    output: str
    names: Mapping[int, Name]
    meanings: Mapping[str, str] = field(default_factory=dict)
    links: str = ""
    items: Tally = field(default_factory=Tally)
    regions: Saliency = field(default_factory=Saliency)
    why_not: str = ""
    people: str = ""
    said: float = 0.0
    missed: float = 0.0
    steps: list[int] = field(default_factory=list)
    rough: int = 0

    @property
    def title(self) -> str:
        """The modality, whether its edges are meant, and the output where there are several."""
        where = f"{self.modality} {self.links}".strip()
        return f"{where}, {self.output}" if self.output else where

    def count(
        self, parts: Attribution, real: NDArray[Any], subjects: Sequence[int], items: NDArray[Any] | None
    ) -> None:
        """Count the attributions of some patients; without numbers of items they are pixels."""
        values = parts.values.cpu().double().numpy()
        self.said += float(parts.said.abs().sum())
        self.missed += float(parts.missed.abs().sum())
        self.steps += parts.steps.tolist()
        self.rough += int(is_rough(parts.said, parts.missed).sum())
        if items is None:
            self.regions.add(real, values, subjects)
        else:
            self.items.add(items, real, values, subjects)

    @property
    def found(self) -> tuple[list[Attributed], int]:
        """What moves the predictions most, first, and how many others there are."""
        tally, names = roll_up(self.items, self.names) if self.links == "edges" else (self.items, self.names)
        return tally.table(names)

    @property
    def table(self) -> Table:
        """What moves the predictions most, first, with its meaning where codes have any."""
        rows, others = self.found
        heads = ["head", "relation", "tail"] if self.links else [_KINDS.get(self.modality, "item")]
        meanings = [self.meaning(each.name) for each in rows]
        known = any(meanings)
        note = f"{others:,} more have fewer than {LEAST} patients or no name, and are not told." if others else ""
        cells = [
            [*_cells(each.name), *([meaning] if known else []), *each[1:]]
            for each, meaning in zip(rows, meanings, strict=True)
        ]
        told = ["patients", "mean attribution", "mean size", "share"]
        return Table([*heads, *(["meaning"] if known else []), *told], cells, note)

    def meaning(self, name: Name) -> str:
        """Return what a code means, or both ends of an edge; empty where nobody has said."""
        if isinstance(name, str):
            return self.meanings.get(name, "")
        ends = [name[2]] if self.links == "ancestors" else [name[0], name[2]]
        return " → ".join(self.meanings.get(end, end) for end in ends) if self.meanings.keys() & set(ends) else ""

    def label(self, name: Name) -> str:
        """Return a name, with its meaning as far as there is room, for a picture."""
        if isinstance(name, tuple) and self.links == "edges":
            return _short(" ".join(name))
        code = name if isinstance(name, str) else name[2]
        number, meaning = code.partition("//")[2] or code, self.meanings.get(code, "")
        spelt = meaning and not any(letter.isdigit() for letter in number)  # such a code is its meaning, shorter
        return _short(meaning if spelt else f"{number} {meaning}".strip())

    def sums(self) -> str:
        """Say how well attributions add up, which they do exactly in the limit of many steps only."""
        if not self.said:
            return "Nothing here moves any prediction."
        share = self.missed / self.said
        whole = self.said / len(self.steps)
        text = f"Attributions miss what they should add up to by {share:.1%} of {whole:.3f} in the mean"
        text += ": read them as rough" if share > _ROUGH else ""
        steps, counts = np.unique(self.steps, return_counts=True)
        text += f"; {steps[counts.argmax()]} steps were enough for most"
        text += f", {steps[-1]} were the most that was tried" if steps[-1] > steps[counts.argmax()] else ""
        return f"{text}, and {self.rough:,} of {len(self.steps):,} patients stayed rough." if self.rough else f"{text}."


def _cells(name: Name) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else name


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"


def tables_of(found: Sequence[Explained]) -> dict[str, Table]:
    """Return the tables that are not empty, by the names of their files."""
    made = {each.title.replace(", ", "_").replace(" ", "_").replace("/", "_"): each.table for each in found}
    return {name: each for name, each in made.items() if each.rows}

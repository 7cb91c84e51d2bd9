"""The whole record told as one text, which a pretrained language model reads: a vector a patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.limits import at_least
from encoders.notes.language import POOLS, load_language, pool_windows, read_windows
from encoders.notes.subwords import Subwords, tokenizer_digest
from encoders.packed import Packed
from encoders.records import Knowledge, Record
from encoders.serialise import TextOptions
from encoders.wording import Wording, coded_sections
from fusion.component import Choice, Float
from fusion.tokens import Tokens, present


class RecordTextInputs(NamedTuple):
    """The subwords of B patients' texts, between the marks of their windows. Shape: ids (B, T) int64, mask (B, T)."""

    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class RecordText:
    """Writes a record's coded events as Markdown and cuts it as a language model does; whole lines are kept."""

    codes: tuple[str, ...]
    wording: Wording
    subwords: Subwords
    instruction: str = ""

    @classmethod
    def depends_on(cls, options: Mapping[str, Any]) -> str:
        """Return what prepared tensors hang on beside the model's name: the tokenizer in its folder."""
        return tokenizer_digest(str(options.get("model", "")))

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,
        *,
        model: str,
        max_tokens: int = 512,
        max_lines: int = 32,
        last_values: int = 3,
        sections: str = "",
        instruction: str = "",
        min_count: int = 2,
        max_codes: int = 20_000,
    ) -> Self:
        """Load the tokenizer of a model and keep what codes mean, of those never seen `max_codes`.

        `sections` names the blocks that are written, with commas between; without it all are. `instruction` is a line
        before the text, for models that are told what it is read for.

        Raises:
            UsageError: an option is out of its range, or the model cannot be loaded.
        """
        at_least("min_count", min_count, 1)
        text = TextOptions(coded_sections(sections), max_lines=max_lines, last_values=last_values)
        subwords = Subwords.fit((), knowledge, model=model, max_tokens=max_tokens)
        codes: Counter[str] = Counter()
        for record in records:
            codes.update({str(code) for code in record.codes.codes})
        known = tuple(sorted(code for code, count in codes.items() if count >= min_count))
        return cls(known, Wording.of(knowledge, codes, text, max_codes), subwords, " ".join(instruction.split()))

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"ids": (np.dtype(np.int32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Write and cut a record; where it is too long, the first whole lines are kept."""
        if not len(record.codes.codes):
            return None
        text = self.wording.whole(record)
        ids = self.subwords.number(f"{self.instruction}\n\n{text}" if self.instruction else text)
        return {"ids": np.array(ids, np.int32)}

    def collate(self, packed: Packed, rows: Tensor) -> RecordTextInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return RecordTextInputs(columns["ids"].long(), mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        about = {"codes": list(self.codes), "subwords": self.subwords.to_dict(), "instruction": self.instruction}
        return {**about, **self.wording.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        subwords = Subwords.from_dict(data["subwords"])
        return cls(tuple(data["codes"]), Wording.from_dict(data), subwords, data["instruction"])


class RecordTextEncoder(nn.Module):
    """The record told as one text and read by a frozen language model; a linear layer on its pooled states. One token.

    Its features are the same every epoch and are computed once. A text longer than the model reads at once is read in
    windows whose vectors are averaged. `pool` is mean, first (for encoders with a mark for the whole) or last (for
    decoders).

    Shape:
        RecordTextInputs (B, T) or cached features Tokens (B, 1, F) -> Tokens (B, 1, D).

    Raises:
        UsageError: the model cannot be loaded.

    Reference:
        Hegselmann et al., Large Language Models are Powerful Electronic Health Record Encoders, 2025 (any transformers
        model, encoder or decoder).
    """

    preprocessor: ClassVar[type] = RecordText

    def __init__(
        self,
        preprocessor: RecordText,
        dim: int,
        *,
        model: str = "emilyalsentzer/Bio_ClinicalBERT",
        pool: Annotated[str, Choice(*POOLS, searched=False)] = "mean",
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.frozen, self.pool, self.window = True, pool, preprocessor.subwords.window
        self.language = load_language(preprocessor.subwords, model).requires_grad_(False)
        width = int(self.language.config.hidden_size)
        self.adapt = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim))

    def backbone(self) -> nn.Module:
        """Return the language model, whose weights the cache of features is keyed by."""
        return self.language

    def features(self, inputs: RecordTextInputs) -> Tokens:
        """Return each text's pooled hidden states without gradients. Shape: (B, T) -> Tokens (B, 1, F)."""
        self.language.eval()
        with torch.no_grad():
            states = read_windows(self.language, inputs.ids, inputs.mask, self.window)
        vectors = pool_windows(states, inputs.mask, self.window, self.pool)
        return Tokens(vectors.unsqueeze(1), present(inputs.mask).unsqueeze(1))

    def forward(self, inputs: RecordTextInputs | Tokens) -> Tokens:
        """Encode each patient's text, or adapt features computed before."""
        values, mask = inputs if isinstance(inputs, Tokens) else self.features(inputs)
        return Tokens(self.adapt(values.masked_fill(~mask.unsqueeze(-1), 0.0)), mask)

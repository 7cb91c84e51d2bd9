"""Coded events told in words: a text for each block of the record, each read apart from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.limits import at_least
from encoders.notes.language import POOLS, load_language, pool_windows, read_windows
from encoders.notes.reader import WordReader
from encoders.notes.subwords import Subwords, tokenizer_digest
from encoders.notes.words import Words, most_frequent, split_words
from encoders.packed import Packed
from encoders.records import Knowledge, Record
from encoders.serialise import TextOptions, write_blocks
from encoders.wording import Wording, coded_sections
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class PseudoNoteInputs(NamedTuple):
    """The blocks of B patients, in the order of `BLOCKS`; a block holds up to L words, 0 where it has fewer.

    Shape:
        ids (B, T, L) int64; mask (B, T) bool.
    """

    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class PseudoNotes:
    """Writes a text for each block of the record and numbers its words, the digits of numbers one by one.

    With `subwords`, the words are those of a pretrained model, each number one higher, for 0 is padding.
    """

    codes: tuple[str, ...]
    wording: Wording
    words: Words
    subwords: Subwords | None
    max_words: int = 128

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
        model: str = "",
        max_words: int = 128,
        max_lines: int = 32,
        last_values: int = 3,
        sections: str = "",
        vocabulary: int = 8192,
        min_count: int = 2,
        max_codes: int = 20_000,
    ) -> Self:
        """Learn the words of the training records' texts; descriptions are kept, of codes never seen `max_codes`.

        `sections` names the blocks that are read, with commas between; without it all are.

        Raises:
            UsageError: an option is out of its range, or `model` cannot be loaded.
        """
        at_least("max_words", max_words, 2)
        at_least("vocabulary", vocabulary, 0)
        at_least("max_codes", max_codes, 0)
        text = TextOptions(coded_sections(sections), max_lines=max_lines, last_values=last_values)
        counts: Counter[str] = Counter()
        codes: Counter[str] = Counter()
        for record in records:
            if len(record.codes.codes):
                codes.update({str(code) for code in record.codes.codes})
                blocks = write_blocks(record, knowledge.descriptions, text, knowledge.measures)
                counts.update({word for block in blocks.values() for word in spell(block)})
        known = tuple(sorted(code for code, count in codes.items() if count >= min_count))
        words = Words(() if model else most_frequent(counts, vocabulary, min_count), text.sections)
        subwords = Subwords.fit((), knowledge, model=model, max_tokens=max_words) if model else None
        return cls(known, Wording.of(knowledge, codes, text, max_codes), words, subwords, max_words)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"ids": (np.dtype(np.int32), (self.max_words,))}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Write and number every block, the empty ones too; of long blocks the first lines, what happened last."""
        if not len(record.codes.codes):
            return None
        texts = self.wording.blocks(record)
        ids = np.zeros((len(texts), self.max_words), np.int32)
        for row, (name, text) in enumerate(texts.items()):
            numbers = self._number(name, text)
            ids[row, : len(numbers)] = numbers
        return {"ids": ids}

    def _number(self, name: str, text: str) -> list[int]:
        if self.subwords is not None:
            return [number + 1 for number in self.subwords.number(text)]
        lines = [[self.words.place(word) for word in spell(line)] for line in text.splitlines()]
        room = self.max_words - 1
        whole = sum(end <= room for end in accumulate(map(len, lines)))
        numbers = [number for line in lines[: max(1, whole)] for number in line]
        return [self.words.mark(name), *numbers[:room]]

    def collate(self, packed: Packed, rows: Tensor) -> PseudoNoteInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return PseudoNoteInputs(columns["ids"].long(), mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "codes": list(self.codes),
            **self.wording.to_dict(),
            "words": self.words.to_dict(),
            "subwords": self.subwords and self.subwords.to_dict(),
            "max_words": self.max_words,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(
            tuple(data["codes"]),
            Wording.from_dict(data),
            Words.from_dict(data["words"]),
            Subwords.from_dict(data["subwords"]) if data["subwords"] else None,
            data["max_words"],
        )


def spell(text: str) -> Iterator[str]:
    """Return the words of a text; a number is its digits and its point, so that none is unknown.

    Examples:
        >>> list(spell("- sodium: 13.5"))
        ['-', 'sodium', '1', '3', '.', '5']
    """
    for word in split_words(text):
        yield from word if word[0].isdigit() else (word,)


class PseudoNoteTransformer(nn.Module):
    """The text of each block of a record becomes one vector; blocks then attend to each other. A token a block.

    A block without events says so in a sentence, so it is a token like the others. `model` names a pretrained model
    that reads the blocks, frozen, its features computed once, `pool` how its tokens become a vector; without one they
    are read from scratch.

    Shape:
        PseudoNoteInputs (B, T) or cached features Tokens (B, T, F) -> Tokens (B, T, D).

    Raises:
        UsageError: the model cannot be loaded.

    Reference:
        Lee et al., Multimodal Clinical Pseudo-notes for Emergency Department Prediction Tasks using Multiple Embedding
        Model for EHR (MEME), 2024 (blocks by the vocabulary of their codes; from scratch unless a model is named).
    """

    preprocessor: ClassVar[type] = PseudoNotes

    def __init__(
        self,
        preprocessor: PseudoNotes,
        dim: int,
        *,
        model: str = "",
        pool: Annotated[str, Choice(*POOLS, searched=False)] = "mean",
        word_layers: Annotated[int, Int(0, 2)] = 0,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.frozen, self.pool = preprocessor.subwords is not None, pool
        if preprocessor.subwords is None:
            self.read = WordReader(preprocessor.words.size, dim, layers=word_layers, heads=heads, dropout=dropout)
        else:
            self.window = preprocessor.subwords.window
            self.language = load_language(preprocessor.subwords, model).requires_grad_(False)
            width = int(self.language.config.hidden_size)
            self.adapt = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim))
        self.block = nn.Parameter(0.1 * torch.randn(len(preprocessor.wording.text.sections), dim))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def backbone(self) -> nn.Module:
        """Return the language model, whose weights the cache of features is keyed by."""
        return self.language

    def features(self, inputs: PseudoNoteInputs) -> Tokens:
        """Return each block's pooled hidden states without gradients. Shape: (B, T) -> Tokens (B, T, F)."""
        self.language.eval()
        ids = inputs.ids[inputs.mask]
        real = ids > 0
        with torch.no_grad():
            states = read_windows(self.language, (ids - 1).clamp(min=0), real, self.window)
        return Tokens(_place(pool_windows(states, real, self.window, self.pool), inputs.mask), inputs.mask)

    def forward(self, inputs: PseudoNoteInputs | Tokens) -> Tokens:
        """Encode each patient's blocks, or features computed before."""
        mask = inputs.mask
        if self.frozen:
            features = inputs if isinstance(inputs, Tokens) else self.features(inputs)
            texts = self.adapt(features.values.masked_fill(~mask.unsqueeze(-1), 0.0))
        else:
            assert not isinstance(inputs, Tokens)
            texts = _place(self.read(inputs.ids[mask]), mask)
        values = self.drop(texts + self.block[: mask.shape[1]])
        for block in self.blocks:
            values = block(values, mask)
        return Tokens(self.norm(values), mask)


def _place(vectors: Tensor, mask: Tensor) -> Tensor:
    """Put vectors where the mask is True, zeros elsewhere. Shape: (N, F), (B, T) -> (B, T, F)."""
    return vectors.new_zeros(*mask.shape, vectors.shape[-1]).masked_scatter(mask.unsqueeze(-1), vectors)

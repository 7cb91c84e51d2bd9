"""Subwords of notes, as the tokenizer of a pretrained language model cuts them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.notes.words import NoteInputs
from encoders.packed import Packed
from encoders.records import Knowledge, Record
from encoders.weights import weights_only
from fusion.component import UsageError

_LEAST = 3  # two marks and a word
_NO_MARK = -1  # of tokenizers that begin or end texts without one
_READ_BY = (
    "tokenizer*",
    "config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)


@dataclass(frozen=True)
class Subwords:
    """Numbers subwords; tokenizer and configuration are kept as JSON, so a saved model needs no folder and no hub.

    Where `max_tokens` is more than the model reads at once, the text is laid out in windows of `window` subwords, each
    between marks of its own.
    """

    model: str
    tokenizer: str
    config: str
    window: int
    max_tokens: int = 256
    opening: int = 0
    closing: int = 0

    @classmethod
    def depends_on(cls, options: Mapping[str, Any]) -> str:
        """Return what prepared tensors hang on beside the model's name: the tokenizer and the sizes in its folder."""
        return tokenizer_digest(str(options.get("model", "")))

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],  # noqa: ARG003 - nothing is learned from the data
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        model: str,
        max_tokens: int | None = None,
    ) -> Self:
        """Load the tokenizer of a model by its id or folder; `max_tokens` is 256, or fewer where it can read no more.

        More than the model can read at once is read in windows.

        Raises:
            UsageError: there is no such model, it has no fast tokenizer or another's, or no room for a word between
                two marks.
        """
        found = load_pretrained("AutoTokenizer", model)
        if not getattr(found, "is_fast", False):
            raise UsageError(f"{model} has no fast tokenizer; choose a model that has one")
        opening = found.cls_token_id if found.cls_token_id is not None else found.bos_token_id
        closing = found.sep_token_id if found.sep_token_id is not None else found.eos_token_id
        config = load_pretrained("AutoConfig", model)
        _check_words(model, found, config)
        most = _positions(config, found)
        max_tokens = min(256, most) if max_tokens is None else max_tokens
        at_least("max_tokens", max_tokens, _LEAST)
        if most < _LEAST:
            raise UsageError(f"{model} reads {most} tokens at once; two marks and a word need {_LEAST}")
        return cls(
            model,
            found.backend_tokenizer.to_str(),
            config.to_json_string(use_diff=False),
            min(most, max_tokens),
            max_tokens,
            _NO_MARK if opening is None else opening,
            next((each for each in (closing, opening) if each is not None), _NO_MARK),
        )

    @cached_property
    def _cut(self) -> Any:
        from tokenizers import Tokenizer

        cut = Tokenizer.from_str(self.tokenizer)
        cut.no_truncation()  # how much is kept is decided over all notes, not in each
        cut.no_padding()
        return cut

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"ids": (np.dtype(np.int32), ()), "days": (np.dtype(np.float32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Cut all notes, the most recent kept where there are too many, between opening and closing marks."""
        ids: list[int] = []
        days: list[float] = []
        for note in reversed(record.notes):
            room = self.room - len(ids)
            if room < 1:
                break
            mine = self._cut.encode(note.text, add_special_tokens=False).ids[:room]
            ids[:0] = mine
            days[:0] = [note.days] * len(mine)
        if not ids:
            return None
        ids, days = self._mark(ids, days)
        return {"ids": np.array(ids, np.int32), "days": np.array(days, np.float32)}

    def number(self, text: str) -> list[int]:
        """Cut a text, of one that is too long the first whole lines, and put marks around each window."""
        cut = self._cut.encode(text, add_special_tokens=False)
        ids: list[int] = cut.ids
        if len(ids) > self.room:
            last = text.rfind("\n", 0, cut.offsets[self.room][0] + 1)
            whole = sum(end <= last for _, end in cut.offsets[: self.room])
            ids = ids[: whole or self.room]  # of a first line that is too long, its beginning
        return self._mark(ids, [0.0] * len(ids))[0]

    @property
    def room(self) -> int:
        """How many subwords are kept beside the marks of every window."""
        whole, rest = divmod(self.max_tokens, self.window)
        return whole * (self.window - 2) + max(0, rest - 2)

    def _mark(self, ids: list[int], days: list[float]) -> tuple[list[int], list[float]]:
        """Put marks around what each window holds; a mark has the time of the subword beside it."""
        marked: list[int] = []
        times: list[float] = []
        for start in range(0, len(ids), self.window - 2):
            mine, when = ids[start : start + self.window - 2], days[start : start + self.window - 2]
            first, last = ([each] if each != _NO_MARK else [] for each in (self.opening, self.closing))
            marked += [*first, *mine, *last]
            times += [*when[: len(first)], *when, *when[len(when) - len(last) :]]
        return marked, times

    def collate(self, packed: Packed, rows: Tensor) -> NoteInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return NoteInputs(columns["ids"].long(), columns["days"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        names = ("model", "tokenizer", "config", "window", "max_tokens", "opening", "closing")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(**data)


def _check_words(model: str, tokenizer: Any, config: Any) -> None:
    """Refuse what transformers makes up where a folder has no tokenizer, and a tokenizer of another model."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UsageError(f"cannot load '{model}': it has no tokenizer; save the model's own beside it (tokenizer.json)")
    known = getattr(config, "vocab_size", None)
    if known is not None and tokenizer.vocab_size > known:
        raise UsageError(
            f"cannot load '{model}': its tokenizer has {tokenizer.vocab_size:,} subwords and the model {known:,}; "
            "they do not belong together"
        )


def tokenizer_digest(model: str) -> str:
    """Hash what a local folder of a model says of cutting and of sizes; "" of a hub's model, which its name tells."""
    folder = Path(model)
    if not model or not folder.is_dir():
        return ""
    files = sorted({each for pattern in _READ_BY for each in folder.glob(pattern) if each.is_file()})
    return hashlib.sha256(b"".join(each.name.encode() + each.read_bytes() for each in files)).hexdigest()


def _positions(config: Any, tokenizer: Any) -> int:
    """Return how many subwords a model reads at once; not every tokenizer knows, and not every model has a limit."""
    # RoBERTa and its kin count positions from after that of the padding, which is 1
    kept = 2 if getattr(config, "pad_token_id", None) == 1 else 0
    places = [(getattr(config, "max_position_embeddings", None) or 0) - kept, tokenizer.model_max_length]
    return min((int(n) for n in places if n and n > 0), default=256)


def load_pretrained(kind: str, model: str, **settings: Any) -> Any:
    """Load something by transformers from a folder or the hub, without running code that comes with it.

    Raises:
        UsageError: it cannot be had.
    """
    import transformers

    try:
        with weights_only():
            return getattr(transformers, kind).from_pretrained(model, trust_remote_code=False, **settings)
    except (OSError, ValueError, KeyError, ImportError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot load '{model}': {why}; give a local folder, or a hub id where there is a network"
        ) from None

"""Pretrained language models of transformers: loading them, and reading texts longer than they can."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from encoders.notes.subwords import Subwords, load_pretrained
from encoders.weights import fetch_pretrained
from fusion.layers import masked_mean
from fusion.tokens import Tokens

POOLS = ("mean", "first", "last")
_AT_ONCE = 64  # windows


def load_language(preprocessor: Subwords, model: str) -> Any:
    """Load a language model, or build one of its shape where a saved model's weights are about to be loaded.

    Raises:
        UsageError: the model cannot be loaded.
    """
    if fetch_pretrained():
        language = load_pretrained("AutoModel", model, use_safetensors=True, dtype=torch.float32)
    else:
        import transformers

        data = json.loads(preprocessor.config)
        config = transformers.AutoConfig.for_model(**data)
        language = transformers.AutoModel.from_config(config, dtype=torch.float32)
    if getattr(language.config, "is_encoder_decoder", False):
        language = language.get_encoder()  # what writes is not needed to read
    if getattr(language, "pooler", None) is not None:
        language.pooler = None  # we read tokens; a pooler would get no gradient
    return language


def read_windows(language: Any, ids: Tensor, mask: Tensor, window: int) -> Tensor:
    """Return the last hidden states of texts, each window of `window` subwords read apart from the others.

    Windows without a subword are not read, and never more than a few dozen at once, so that what a frozen model
    needs is bounded by the window and not by the text.

    Shape:
        ids (B, T) int64, mask (B, T) bool -> (B, T, F), zeros behind the mask.
    """
    batch, length = ids.shape
    window = min(window, length)
    extra = -length % window
    windows = nn.functional.pad(ids * mask, (0, extra)).reshape(-1, window)
    real = nn.functional.pad(mask, (0, extra)).reshape(-1, window)
    chosen = real.any(1).nonzero().squeeze(1)
    parts = [_read(language, windows[some], real[some]) for some in chosen.split(_AT_ONCE) if len(some)]
    width = int(language.config.hidden_size)
    kind = parts[0].dtype if parts else torch.float32
    found = torch.zeros(len(windows), window, width, dtype=kind, device=ids.device)
    if parts:
        found = found.index_copy(0, chosen, torch.cat(parts))
    return found.reshape(batch, -1, width)[:, :length]


def pool_windows(states: Tensor, mask: Tensor, window: int, pool: str) -> Tensor:
    """Return one vector a text: the mean of its tokens, or of the first or the last token of its windows.

    The first is what encoders as BERT are made for, the last what decoders are, whose other tokens have read less.

    Shape:
        states (B, T, F), mask (B, T) bool -> (B, F), zeros for a text without a token.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    if pool == "first":
        mask = mask & (place % window == 0)
    elif pool == "last":
        after = nn.functional.pad(mask[:, 1:], (0, 1))
        mask = mask & (~after | (place % window == window - 1))
    return masked_mean(states, mask)


def _read(language: Any, ids: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = language(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return found.masked_fill(~mask.unsqueeze(-1), 0.0)


def average(values: Tensor, mask: Tensor, stride: int) -> Tokens:
    """Average runs of `stride` neighbours; values are zero behind the mask.

    Shape:
        values (B, T, F), mask (B, T) -> Tokens (B, ceil(T / stride), F).
    """
    extra = -values.shape[1] % stride
    values = nn.functional.pad(values, (0, 0, 0, extra)).unflatten(1, (-1, stride))
    counts = nn.functional.pad(mask, (0, extra)).unflatten(1, (-1, stride)).sum(2)
    return Tokens(values.sum(2) / counts.clamp(min=1).unsqueeze(-1), counts > 0)

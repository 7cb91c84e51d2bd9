"""Masked events: a share of a patient's events loses code and value, or time, and the rest must tell them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.codes.vocabulary import UNKNOWN, CodeInputs, CodeVocabulary
from fusion.component import UsageError
from fusion.model import mean_or_zero, mean_where

_RANDOM, _KEPT = 0.1, 0.1  # of the events that are asked for: shown as another code, shown as they are
_UNDATED = 1 / 3  # of the share: events that lose their time and keep their code


class Hidden(NamedTuple):
    """Events of which something is hidden, and of which what is asked.

    Shape:
        inputs of (B, T); asked (B, T) bool, events whose code and value are asked; undated (B, T) bool, whose time is.
    """

    inputs: CodeInputs
    asked: Tensor
    undated: Tensor


def hide(inputs: CodeInputs, share: float, size: int) -> Hidden:
    """Hide what is asked: a share of the known codes with their values, and the times of a third as many others.

    A hidden code is the unknown one: an event of which nobody says what it is. Of ten codes that are asked for one is
    shown as another and one as it is, so that an encoder cannot trust what it sees.
    """
    dice = torch.rand(inputs.codes.shape, device=inputs.codes.device)
    asked = (dice < share) & inputs.mask & (inputs.codes != UNKNOWN)
    undated = (dice >= share) & (dice < share * (1 + _UNDATED)) & inputs.mask & (inputs.days > 0)
    how = torch.rand(dice.shape, device=dice.device)
    another = torch.randint(1, max(2, size), dice.shape, device=dice.device)
    shown = torch.where(how < _RANDOM, another, torch.where(how < _RANDOM + _KEPT, inputs.codes, UNKNOWN))
    return Hidden(
        CodeInputs(
            torch.where(asked, shown.clamp(max=size - 1), inputs.codes),
            inputs.days.masked_fill(undated, 0.0),
            inputs.values.masked_fill(asked, 0.0),
            inputs.has_value & ~asked,
            inputs.mask,
        ),
        asked,
        undated,
    )


class MaskedCodes(nn.Module):
    """Losses of telling hidden codes, their values and hidden times from an encoder's tokens, one token an event.

    Codes by cross-entropy; values, standardised by code, and the logarithm of times by a Huber loss. Only what was
    hidden is in the losses.

    Shape:
        CodeInputs (B, T) of patients who have codes -> scalars "code", "value", "time".

    Reference:
        Rasmy et al., Med-BERT: pretrained contextualized embeddings on large-scale structured electronic health
        records, 2021 (masked codes; here with values and times, and without its prediction of long stays).
    """

    def __init__(self, vocabulary: CodeVocabulary, dim: int, share: float) -> None:
        super().__init__()
        self.size, self.share = vocabulary.size, share
        self.code, self.value = _head(dim, self.size), nn.Linear(dim, self.size)
        self.time = _head(dim, 1)

    def forward(self, encoder: nn.Module, inputs: CodeInputs) -> dict[str, Tensor]:
        """Hide, encode and ask.

        Raises:
            UsageError: the encoder gives no token an event.
        """
        hidden = hide(inputs, self.share, self.size)
        values = encoder(hidden.inputs).values
        if values.shape[:2] != inputs.codes.shape:
            raise UsageError(
                "masked codes need an encoder with a token an event, and "
                f"{type(encoder).__name__} gives {values.shape[1]} for {inputs.codes.shape[1]} events; "
                "take transformer or mamba"
            )
        return self.ask(values, inputs, hidden)

    def ask(self, values: Tensor, inputs: CodeInputs, hidden: Hidden) -> dict[str, Tensor]:
        """Return the losses of what tokens say. Shape: values (B, T, D) -> scalars."""
        asked, codes = values[hidden.asked], inputs.codes[hidden.asked]
        valued = inputs.has_value[hidden.asked]
        told = self.value(asked).float().gather(1, codes.unsqueeze(1)).squeeze(1)
        apart = functional.smooth_l1_loss(told, inputs.values[hidden.asked], reduction="none")
        when = torch.log1p(inputs.days[hidden.undated].clamp(min=0) * 1440) / 10
        late = functional.smooth_l1_loss(self.time(values[hidden.undated]).float().squeeze(1), when, reduction="none")
        return {
            "code": mean_or_zero(functional.cross_entropy(self.code(asked).float(), codes, reduction="none")),
            "value": mean_where(apart, valued.to(apart.dtype)),
            "time": mean_or_zero(late),
        }


def _head(dim: int, size: int) -> Any:
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, size))

"""Two streams of a record's codes, diagnoses and drugs, and which of their codes a patient has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from encoders.codes.masked import hide
from fusion.component import UsageError
from fusion.model import encode_present
from fusion.six_way import SixWayPrediction
from fusion.tokens import Tokens, present


class CodePrediction(nn.Module):
    """UMM-PLM's objective on one encoder of codes, by number or by the graph, and one of notes.

    A share of the codes is hidden from the encoder: shown as unknown codes, or left out where they are nodes of a
    graph, which has no unknown one. What is asked for are all codes of the record.

    Shape:
        Inputs of codes (B, T), tokens of notes (B, T', D) -> six scalars by name.

    Raises:
        UsageError: no code of the vocabulary has one of the prefixes of a stream.
    """

    place: Tensor

    def __init__(
        self, preprocessor: Any, dim: int, share: float, diagnoses: Sequence[str], drugs: Sequence[str]
    ) -> None:
        super().__init__()
        self.share, self.dim = share, dim
        self.graph = hasattr(preprocessor, "nodes")
        names = list(preprocessor.nodes) if self.graph else ["", *preprocessor.codes]
        prefixes = {"diagnoses": tuple(diagnoses), "drugs": tuple(drugs)}
        place = torch.full((2, max(1, len(names))), -1)
        self.sizes: dict[str, int] = {}
        for row, (stream, starts) in enumerate(prefixes.items()):
            mine = [number for number, name in enumerate(names) if name.startswith(starts)]
            if not mine:
                raise UsageError(
                    f"pretrain.{stream}: none of the {len(names):,} codes of the training patients starts with "
                    f"{' or '.join(starts) or 'nothing'}"
                )
            place[row, mine] = torch.arange(len(mine))
            self.sizes[stream] = len(mine)
        self.register_buffer("place", place, persistent=False)
        self.predict = SixWayPrediction(dim, **self.sizes)

    def forward(self, encoder: nn.Module, inputs: Any, text: Tokens) -> dict[str, Tensor]:
        """Hide codes, encode both streams with the same weights, and ask for all codes of each."""
        ids = inputs.nodes if self.graph else inputs.codes
        shown = self._hidden(inputs)
        streams, targets = {}, {}
        nothing = text.values.new_zeros(self.dim)
        for row, (name, size) in enumerate(self.sizes.items()):
            place = self.place[row][ids]
            mine = (place >= 0) & inputs.mask
            there = mine & shown.mask
            part = shown._replace(mask=there)
            streams[name] = encode_present(encoder, part, present(there), nothing)
            targets[name] = torch.zeros(len(ids), size + 1, device=ids.device).scatter_(
                1, place.masked_fill(~mine, size), 1.0
            )[:, :size]
        return self.predict(streams, text, targets)

    def _hidden(self, inputs: Any) -> Any:
        if not self.graph:
            return hide(inputs, self.share, self.place.shape[1]).inputs
        kept = torch.rand(inputs.mask.shape, device=inputs.mask.device) >= self.share
        return inputs._replace(mask=inputs.mask & kept)

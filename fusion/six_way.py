"""Six-way code prediction: diagnoses, drugs and text of a record, each asked for the codes that it has."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from fusion.cls_attention import cross_reads, summaries
from fusion.model import mean_where
from fusion.pooled import Pooled
from fusion.tokens import Tokens, present

CODES, TEXT = "codes", "text"


class SixWayPrediction(nn.Module):
    """Two-way [CLS] cross-attention with a residual between a stream of codes and the text, then six predictions.

    Diagnoses and drugs are one stream each with the same weights. What a stream of codes says after it has read the
    text predicts its own codes and the other stream's; what the text says after it has read a stream predicts that
    stream's codes. A term counts the patients who have what asks and what is asked for.

    Shape:
        Tokens (B, T, D) of diagnoses, drugs and text, targets (B, V_d) and (B, V_r) float -> six scalars by name.

    Reference:
        Liu et al., Multimodal Data Matters: Language Model Pre-Training over Structured and Unstructured Electronic
        Health Records (UMM-PLM, later MedM-PLM), 2022 (here a pooled summary in place of the [CLS] token, and a term
        of an absent stream is left out).
    """

    def __init__(self, dim: int, diagnoses: int, drugs: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.pool = Pooled((CODES, TEXT), dim)
        self.reads = cross_reads(2, dim, 1, dropout)
        sizes = {"diagnoses": diagnoses, "drugs": drugs}
        ways = [(stream, asked) for stream in sizes for asked in sizes]
        heads = {f"{stream}_{asked}": _head(dim, sizes[asked]) for stream, asked in ways}
        heads |= {f"text_{asked}": _head(dim, size) for asked, size in sizes.items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, streams: Mapping[str, Tokens], text: Tokens, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of each of the six predictions; streams and targets are "diagnoses" and "drugs"."""
        losses = {}
        reads_text = present(text.mask)
        for stream, tokens in streams.items():
            (own, from_text), _ = summaries(self.pool, self.reads, {CODES: tokens, TEXT: text})
            for asked, target in targets.items():
                has = present(tokens.mask) & present(streams[asked].mask)
                losses[f"{stream}_{asked}"] = _term(self.heads[f"{stream}_{asked}"](own), target, has)
            has = reads_text & present(tokens.mask)
            losses[f"text_{stream}"] = _term(self.heads[f"text_{stream}"](from_text), targets[stream], has)
        return losses


def _head(dim: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, size))


def _term(logits: Tensor, target: Tensor, has: Tensor) -> Tensor:
    rows = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(1)
    return mean_where(rows, has)

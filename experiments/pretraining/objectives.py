"""The objectives of a pre-training run together: what each batch is asked, as named losses that add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from encoders.codes.generative import TimelineTransformer, next_event
from encoders.codes.masked import MaskedCodes
from encoders.codes.vocabulary import CodeVocabulary
from encoders.notes.masked import MaskedWords
from encoders.notes.words import Words
from experiments.pretrain_config import PretrainConfig
from experiments.pretraining.streams import CodePrediction
from experiments.strategies.alignment import Alignment
from experiments.strategies.compose import Step
from fusion import FusionModel, UsageError
from fusion.model import present_rows


class Objectives(nn.Module):
    """Named losses of a batch; their weights are there for pre-training only and are not part of an artefact.

    It stands where the training loop has strategies.

    Shape:
        called with encoders and their inputs -> Step without logits.

    Raises:
        UsageError: an encoder or its preprocessor is not one that an objective can ask.
    """

    blend = control = None

    def __init__(self, settings: PretrainConfig, model: FusionModel, preprocessors: Mapping[str, Any]) -> None:
        super().__init__()
        self.masked = nn.ModuleDict()
        if "masked" in settings.objectives:
            for name in [each for each in ("codes", "notes") if each in model.encoders]:
                self.masked[name] = _masked(name, model.encoders[name], preprocessors[name], settings)
        self.contrast: Alignment | None = None
        self.pairs: tuple[tuple[str, str], ...] = ()
        if "contrastive" in settings.objectives:
            self.pairs = tuple(settings.paired())
            names = [name for name in model.encoders if any(name in pair for pair in self.pairs)]
            self.contrast = Alignment(names, model.dim, self.pairs)
        self.forwards = "next_event" in settings.objectives
        self.streams: CodePrediction | None = None
        if "umm_plm" in settings.objectives:
            self.coded = "graph" if "graph" in model.encoders else "codes"
            prefixes = (settings.diagnoses, settings.drugs)
            self.streams = CodePrediction(preprocessors[self.coded], model.dim, settings.mask_share, *prefixes)

    def forward(self, model: FusionModel, inputs: Mapping[str, Any], target: Tensor) -> Step:  # noqa: ARG002
        """Ask everything; there is no target but the records themselves."""
        losses: dict[str, Tensor] = {}
        weight = next(model.head.parameters())
        nothing = weight.sum() * 0.0  # where nobody in a batch has anything, there is still a gradient: none
        for name, ask in self.masked.items():
            rows, some = present_rows(inputs[name])
            if len(rows):
                losses |= {f"masked_{key}": loss for key, loss in ask(model.encoders[name], some).items()}
        if self.forwards:
            rows, some = present_rows(inputs["codes"])
            encoder = cast(TimelineTransformer, model.encoders["codes"])  # the settings see to it
            losses["next_event"] = next_event(encoder, some) if len(rows) else nothing
        if self.contrast is not None or self.streams is not None:
            tokens = model.encode(inputs)
            if self.contrast is not None:
                losses["contrastive"] = self.contrast(tokens)
            if self.streams is not None:
                found = self.streams(model.encoders[self.coded], inputs[self.coded], tokens["notes"])
                losses |= {f"umm_{key}": loss for key, loss in found.items()}
        return Step(losses or {"nothing": nothing}, nothing, {})

    def adjust(self, encoders: Mapping[str, nn.Module], confidence: Mapping[str, float]) -> dict[str, float]:  # noqa: ARG002
        """Balance nothing."""
        return {}

    def end_epoch(self) -> None:
        """Remember nothing from epoch to epoch."""

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""

    def retrieved(self) -> dict[str, str]:
        """Return under which name the recall of each pair of modalities is reported."""
        return {f"{one}-{other}": f"recall_{one}_{other}" for one, other in self.pairs}

    @torch.no_grad()
    def vectors(self, model: FusionModel, inputs: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what contrast compares: of each modality a vector a patient (B, D), and who has it (B,)."""
        return {} if self.contrast is None else self.contrast.embed(model.encode(inputs))


def _masked(name: str, encoder: Any, preprocessor: Any, settings: PretrainConfig) -> nn.Module:
    if name == "codes" and isinstance(preprocessor, CodeVocabulary):
        return MaskedCodes(preprocessor, settings.dim, settings.mask_share)
    if name == "notes" and isinstance(preprocessor, Words):
        return MaskedWords(preprocessor, settings.dim, settings.mask_share, getattr(encoder, "stride", 1))
    wanted = "transformer or mamba" if name == "codes" else "transformer"
    raise UsageError(
        f"objective 'masked' cannot hide what {type(encoder).__name__} reads ({type(preprocessor).__name__}); "
        f"pretrain.encoders.{name} may be {wanted}"
    )

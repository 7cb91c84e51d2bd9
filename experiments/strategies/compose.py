"""All strategies of a run, composed from its training settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.config import TrainingConfig
from experiments.strategies.alignment import Alignment
from experiments.strategies.balance import Balance, InfoReg, OgmGe, confidences
from experiments.strategies.blending import JOINT, GradientBlend
from experiments.strategies.interactions import InteractionControl
from experiments.strategies.probes import Probes
from fusion import Criterion, Fused, FusionModel, Tokens, UsageError
from fusion.model import mean_where


class Step(NamedTuple):
    """What one batch gave: the named losses that add up to what is minimised, and how sure each modality is alone.

    Shape:
        losses: scalars. logits: (B, K).
    """

    losses: dict[str, Tensor]
    logits: Tensor
    confidence: dict[str, float]


class Strategies(nn.Module):
    """The parts of a run that are there for training only; their weights are not part of the model.

    Shape:
        called with the model's inputs and target -> Step.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        criterion: Criterion,
        training: TrainingConfig,
        control: InteractionControl | None = None,
    ) -> None:
        super().__init__()
        self.modalities, self.criterion, self.training_config = tuple(modalities), criterion, training
        self.control = control
        several = len(self.modalities) > 1
        balance = training.balance if several else "none"
        probing = several and (training.unimodal_loss > 0 or balance != "none")
        self.probes = Probes(modalities, dim, criterion.task.outputs) if probing else None
        self.alignment = Alignment(modalities, dim) if several and training.alignment > 0 else None
        self.blend = GradientBlend(self.modalities) if balance == "gradient_blend" else None
        kinds: dict[str, Callable[[float], Balance]] = {"ogm_ge": OgmGe, "info_reg": InfoReg}
        self.balance: Balance | None = kinds[balance](training.balance_strength) if balance in kinds else None

    def forward(self, model: FusionModel, inputs: Mapping[str, Any], target: Tensor) -> Step:
        """Run the model and gather the task's loss, the fusion's own and those of the strategies."""
        tokens = model.encode(inputs)
        fused = model.fusion(tokens)
        logits = model.predict(fused)
        losses = {"task": self.criterion(logits, target), **self._own(model, fused, target)}
        confidence: dict[str, float] = {}
        if self.probes is not None:
            confidence = self._probe(tokens, target, losses)
        if self.alignment is not None:
            losses["alignment"] = self.training_config.alignment * self.alignment(tokens)
        if self.control is not None:
            own, unsafe, _ = self.control(logits)
            losses = {name: own * each for name, each in losses.items()} | {"interactions": (1 - own) * unsafe}
        return Step(losses, logits, confidence)

    def adjust(self, encoders: Mapping[str, nn.Module], confidence: Mapping[str, float]) -> dict[str, float]:
        """Return how large a step each encoder takes where a strategy balances them: a factor, 1 if not named."""
        return {} if self.balance is None else self.balance.adjust(encoders, confidence)

    @torch.no_grad()
    def look(self, model: FusionModel, inputs: Mapping[str, Any], target: Tensor) -> dict[str, Tensor]:
        """Return the plain losses that blending compares: joint and of each modality, summed, and their counts."""
        assert self.probes is not None
        tokens = model.encode(inputs)
        rows = self.criterion.rows(model.predict(model.fusion(tokens)), target)
        found = {JOINT: rows.sum(), f"{JOINT} count": rows.new_tensor(float(len(rows)))}
        answers, has = self.probes(tokens, learn=False)
        for i, name in enumerate(self.modalities):
            found[name] = (self.criterion.rows(answers[:, i], target) * has[:, i]).sum()
            found[f"{name} count"] = has[:, i].sum().float()
        return found

    def measured(self, predictions: NDArray[np.float32]) -> dict[str, float]:
        """Return what a strategy wants to know of tuning predictions. Shape: (N, K)."""
        return {} if self.control is None else {"interaction_rate": self.control.rate_of(predictions)}

    def end_epoch(self) -> None:
        """Take note that an epoch is over."""
        if self.balance is not None:
            self.balance.end_epoch()
        if self.blend is not None:
            self.blend.epochs += 1

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back; weights are tensors and go elsewhere."""
        parts = {"balance": self.balance, "blend": self.blend}
        return {name: part.state() for name, part in parts.items() if part is not None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        if self.balance is not None:
            self.balance.restore(state["balance"])
        if self.blend is not None:
            self.blend.restore(state["blend"])

    def _own(self, model: FusionModel, fused: Fused, target: Tensor) -> Mapping[str, Tensor]:
        """The fusion's own losses; its judge is the head, asked about each vector with the patient's target."""

        def judge(vectors: Tensor) -> Tensor:
            count = vectors[0, ..., 0].numel()
            rows = self.criterion.rows(model.head(vectors.flatten(0, -2)), target.repeat_interleave(count, dim=0))
            return rows.view(vectors.shape[:-1])

        return fused.losses(judge)

    def _probe(self, tokens: Mapping[str, Tokens], target: Tensor, losses: dict[str, Tensor]) -> dict[str, float]:
        """Add the losses of single modalities; blending weighs them and the task's loss."""
        assert self.probes is not None
        weight = self.training_config.unimodal_loss
        answers, has = self.probes(tokens, learn=weight > 0 or self.blend is not None)
        each = {
            name: mean_where(self.criterion.rows(answers[:, i], target), has[:, i])
            for i, name in enumerate(self.modalities)
        }
        if self.blend is not None:
            losses["task"] = losses["task"] * self.blend.weights[JOINT]
            losses["unimodal"] = torch.stack([self.blend.weights[name] * one for name, one in each.items()]).sum()
        else:  # with weight 0 the probes learn to measure, and the encoders learn nothing from them
            losses["unimodal"] = (weight or 1.0) * torch.stack(list(each.values())).mean()
        with torch.no_grad():
            sure = torch.stack([self.criterion.confidence(answers[:, i], target) for i in range(has.shape[1])], dim=1)
        return confidences(self.modalities, sure, has)


def make_strategies(
    model: FusionModel, criterion: Criterion, training: TrainingConfig, interactions: NDArray[np.bool_] | None = None
) -> Strategies:
    """Build the strategies of a run.

    Args:
        interactions: which labels interact, where that is known. Shape: (K, K).

    Raises:
        UsageError: a strategy that the kind of task does not know, or interactions to be held down that nobody gave.
    """
    for name in ("label_smoothing", "focal_gamma", "class_weights"):
        if criterion.task.kind == "regression" and getattr(training, name):
            raise UsageError(f"training.{name} is about classes; a regression task has none")
    control = _control(criterion, training, interactions)
    return Strategies(list(model.encoders), model.dim, criterion, training, control)


def _control(
    criterion: Criterion, training: TrainingConfig, interactions: NDArray[np.bool_] | None
) -> InteractionControl | None:
    target, kind = training.interaction_target, criterion.task.kind
    if target is None:
        return None
    if kind != "multilabel":
        raise UsageError(f"training.interaction_target is about sets of drugs, a multilabel task; got a {kind} task")
    if interactions is None:
        raise UsageError(
            "training.interaction_target needs to know which labels interact, and this label has no interactions.csv; "
            "see: ehrfusion tasks medication --on FOLDER --interactions drug_classes"
        )
    return InteractionControl(interactions, target, training.interaction_gain, training.interaction_weight)

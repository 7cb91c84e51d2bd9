"""The optimizer of a run: AdamW, no decay for vectors, smaller steps for lower layers, warm-up, and decay if asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from experiments.config import TrainingConfig
from fusion import FusionModel
from fusion.component import UsageError

_NUMBER = re.compile(r"\d+")
_FIRST = ("embed", "table", "code.", "vectors")  # in the names of what lies below all layers


def make_optimizer(
    model: FusionModel, strategies: nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.AdamW:
    """Group what is trained by decay and by depth; each group's `scale` multiplies the learning rate.

    Where modalities are balanced, each has groups of its own, for `set_pace`.

    Raises:
        UsageError: nothing is to be trained.
    """
    scales = dict(layer_scales(model, training.layer_decay))
    balanced = training.balance in ("ogm_ge", "info_reg")
    groups: dict[tuple[float, bool, str], list[nn.Parameter]] = {}
    for owner in (model, strategies):
        for name, each in owner.named_parameters():
            if each.requires_grad:
                scale = scales.get(name, 1.0) if owner is model else 1.0
                modality = name.split(".")[1] if balanced and owner is model and name in scales else ""
                groups.setdefault((scale, each.dim() >= 2, modality), []).append(each)
    if not any(each.requires_grad for each in model.parameters()):
        raise UsageError("the model has nothing to train")
    settings = [
        {
            "params": params,
            "scale": scale,
            "modality": modality,
            "weight_decay": training.weight_decay if decays else 0.0,
        }
        for (scale, decays, modality), params in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=training.lr, fused=device.type in ("cpu", "cuda"))


def warm_up(optimizer: torch.optim.Optimizer, training: TrainingConfig, step: int, steps: int) -> None:
    """Set the learning rate of a step (counted from 0 over all epochs): it grows linearly, then stays or falls.

    With `decay` it falls linearly, to nothing after the last of all `steps`.

    Reference:
        Hoffmann et al., Training Compute-Optimal Large Language Models, 2022 (as long as the run, or the loss of short
        runs is overestimated).
    """
    share = min(1.0, (step + 1) / max(1, training.warmup_steps))
    if training.decay:
        share = min(share, (steps - step) / max(1, steps - training.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = training.lr * share * group["scale"]


def set_pace(optimizer: torch.optim.Optimizer, factors: Mapping[str, float]) -> None:
    """Multiply the learning rate of modalities' encoders for the step to come; `warm_up` sets it anew for the next."""
    for group in optimizer.param_groups if factors else ():
        group["lr"] *= factors.get(group["modality"], 1.0)


def layer_scales(model: FusionModel, decay: float) -> Iterator[tuple[str, float]]:
    """Give each encoder parameter decay^(layers above it): embeddings lowest, then numbered layers, then the rest.

    Reference:
        Howard, Ruder, Universal Language Model Fine-tuning for Text Classification, 2018 (discriminative fine-tuning);
        Clark et al., ELECTRA, 2020 (one factor a layer).
    """
    for modality, encoder in model.encoders.items():
        depths = {name: layer_depth(name) for name, _ in encoder.named_parameters()}
        top = max((depth for depth in depths.values() if depth is not None), default=0) + 1
        for name, depth in depths.items():
            yield f"encoders.{modality}.{name}", decay ** (top - (top if depth is None else depth))


def layer_depth(name: str) -> int | None:
    """Return 0 for embeddings, n + 1 in a module numbered n, None for what has no number."""
    if any(part in name for part in _FIRST):
        return 0
    number = _NUMBER.search(name)
    return int(number.group()) + 1 if number else None

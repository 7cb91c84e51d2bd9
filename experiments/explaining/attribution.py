"""Integrated gradients: how much each code, word, node or pixel of a patient moves the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.explaining.gates import Gated, items_of
from fusion import FusionModel, Tokens, UsageError
from fusion.tokens import clean

STEPS = 32
"""Points of the path at which gradients are taken (Gauss-Legendre)."""


class Attribution(NamedTuple):
    """What each item or pixel of patients moves, what all of it moves, and by how much the sum of parts misses that.

    Shape:
        values (B, ...) like the items or pixels; said and missed (B,).
    """

    values: Tensor
    said: Tensor
    missed: Tensor


class Unattributable(Exception):
    """An encoder through which no gradient leads back to what a patient has."""


def attribute(
    model: FusionModel, inputs: Mapping[str, Any], modality: str, output: int, steps: int = STEPS
) -> Attribution:
    """Return how much each item, or pixel, of a modality moves one logit of each patient.

    A patient's attributions add up to the logit minus that of the same patient whose items nobody knows: tables say
    nothing of them, pixels are the mean of training. What other modalities say stays as it is. With few steps the sum
    misses that where the network bends sharply (maxima, rectifiers), so by how much is returned too.

    Args:
        inputs: of patients who all have the modality.
        steps: of the path from nothing to everything.

    Shape:
        values (B, T) or (B, T, L) like the items, (B, K, C, H, W) like the pixels.

    Raises:
        Unattributable: the encoder has no such path.
        UsageError: captum is not installed.

    Reference:
        Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017; Kokhlikyan et al., Captum, 2020.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise UsageError("explain needs captum; install it with: pip install 'ehrfusion[explain]'") from None
    gate = gates_of(inputs[modality])
    with torch.no_grad():
        others = {name: found for name, found in model.encode(inputs).items() if name != modality}

    def logit(gates: Tensor) -> Tensor:
        return gated_logits(model, inputs[modality], others, modality, gates)[:, output]

    with torch.enable_grad():
        probe = gate.clone().requires_grad_()
        said = logit(probe)
        if not said.requires_grad or torch.autograd.grad(said.sum(), probe, allow_unused=True)[0] is None:
            raise Unattributable
        found, missed = IntegratedGradients(logit).attribute(
            gate,
            torch.zeros_like(gate),
            n_steps=steps,
            internal_batch_size=4 * len(gate),
            return_convergence_delta=True,
        )
    values, missed = found.detach(), missed.detach()
    return Attribution(values, values.flatten(1).sum(1) - missed, missed)


def gates_of(inputs: Any) -> Tensor:
    """Return open gates for all that a patient has of a modality; shut where there is nothing."""
    items = items_of(inputs)
    if items is not None:
        return items[1].to(torch.float32)
    if not hasattr(inputs, "pixels"):
        raise Unattributable
    real: Tensor = inputs.mask.to(torch.float32)
    return real.reshape(*real.shape, 1, 1, 1).expand(inputs.pixels.shape).contiguous()


def gated_logits(model: FusionModel, inputs: Any, others: Mapping[str, Tokens], modality: str, gates: Tensor) -> Tensor:
    """Predict patients, each several times, with other gates. Shape: gates (n * B, ...) -> (n * B, K)."""
    times = len(gates) // len(inputs.mask)
    mine = type(inputs)(*(_repeated(part, times) for part in inputs))
    encoder: Any = model.encoders[modality]
    if hasattr(mine, "pixels"):
        grey = 255.0 * getattr(encoder, "mean", 0.5)
        tokens = encoder(mine._replace(pixels=grey + gates * (mine.pixels.to(gates.dtype) - grey)))
    else:
        found = items_of(mine)
        if found is None:
            raise Unattributable
        with Gated(gates, found[0], mine.mask) as gated:
            tokens = encoder(mine)
        if not gated.lookups:
            raise Unattributable
    rest = {name: Tokens(*(_repeated(part, times) for part in each)) for name, each in others.items()}
    everything = {name: clean(tokens) if name == modality else rest[name] for name in model.encoders}
    return model.predict(model.fusion(everything))


def _repeated(part: Tensor, times: int) -> Tensor:
    return part if times == 1 else part.repeat(times, *[1] * (part.ndim - 1))

"""Integrated gradients: how much each code, word, node or pixel of a patient moves the prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.explaining.gates import Gated, items_of
from fusion import FusionModel, Tokens, UsageError
from fusion.tokens import clean

STEPS = 32
"""Points of the path at which gradients are taken (Gauss-Legendre), to begin with."""
MOST_STEPS = 512
"""Points beyond which attributions stay as rough as they are."""
_GAP, _SLIGHT = 0.05, 0.01  # what parts may miss of what all says: a share of it, or so many log-odds

Logit = Callable[[Tensor, Tensor], Tensor]
"""One logit of patients at some gates, each patient several times. Shape: gates (n, ...), patients (n,) -> (n,)."""


class Attribution(NamedTuple):
    """What each item or pixel of patients moves, what all of it moves, and by how much the sum of parts misses that.

    Shape:
        values (B, ...) like the items or pixels; said, missed and steps, the points of the path, (B,).
    """

    values: Tensor
    said: Tensor
    missed: Tensor
    steps: Tensor


class Unattributable(Exception):
    """An encoder through which no gradient leads back to what a patient has."""


def attribute(
    model: FusionModel,
    inputs: Mapping[str, Any],
    modality: str,
    output: int,
    steps: int = STEPS,
    most: int = MOST_STEPS,
) -> Attribution:
    """Return how much each item, or pixel, of a modality moves one logit of each patient.

    A patient's attributions add up to the logit minus that of the same patient whose items nobody knows: tables say
    nothing of them, pixels are the mean of training. What other modalities say stays as it is.

    Args:
        inputs: of patients who all have the modality.
        steps: of the path from nothing to everything, to begin with; doubled up to `most` where they are too few.

    Shape:
        values (B, T) or (B, T, L) like the items, (B, K, C, H, W) like the pixels.

    Raises:
        Unattributable: the encoder has no such path.
        UsageError: captum is not installed.
    """
    others = others_of(model, inputs, modality)

    def logit(gates: Tensor, patients: Tensor) -> Tensor:
        return gated_logits(model, inputs[modality], others, modality, gates, patients)[:, output]

    return integrated(logit, gates_of(inputs[modality]), steps, most)


def integrated(logit: Logit, gates: Tensor, steps: int = STEPS, most: int = MOST_STEPS) -> Attribution:
    """Integrate a logit's gradient from shut gates to these, with more steps for patients whose parts do not add up.

    With few steps the sum of the parts misses the whole where the network bends sharply (maxima, rectifiers). Where it
    misses more than a twentieth, and more than 0.01, the steps are doubled.

    Raises:
        Unattributable: the logit does not depend on the gates.
        UsageError: captum is not installed.

    Reference:
        Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, 2017; Kokhlikyan et al., Captum, 2020.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise UsageError("explain needs captum; install it with: pip install 'ehrfusion[explain]'") from None
    left = torch.arange(len(gates), device=gates.device)
    values, missed, taken = torch.zeros_like(gates), gates.new_zeros(len(gates)), torch.zeros_like(left)
    with torch.enable_grad():
        probe = gates.clone().requires_grad_()
        said = logit(probe, left)
        if not said.requires_grad or torch.autograd.grad(said.sum(), probe, allow_unused=True)[0] is None:
            raise Unattributable
        while True:
            found, gap = IntegratedGradients(logit).attribute(
                gates[left],
                torch.zeros_like(gates[left]),
                additional_forward_args=left,
                n_steps=steps,
                internal_batch_size=4 * len(left),
                return_convergence_delta=True,
            )
            values[left], missed[left], taken[left] = found.detach(), gap.detach(), steps
            whole = values[left].flatten(1).sum(1) - missed[left]
            left = left[is_rough(whole, missed[left])]
            steps *= 2
            if steps > most or not len(left):
                return Attribution(values, values.flatten(1).sum(1) - missed, missed, taken)


def is_rough(said: Tensor, missed: Tensor) -> Tensor:
    """Tell whose parts miss too much of the whole to be a sum of it. Shape: (B,), (B,) -> (B,) bool."""
    return missed.abs() > (_GAP * said.abs()).clamp(min=_SLIGHT)


@torch.no_grad()
def others_of(model: FusionModel, inputs: Mapping[str, Any], modality: str) -> dict[str, Tokens]:
    """Return the tokens of all other modalities."""
    return {name: found for name, found in model.encode(inputs).items() if name != modality}


def gates_of(inputs: Any) -> Tensor:
    """Return open gates for all that a patient has of a modality; shut where there is nothing."""
    items = items_of(inputs)
    if items is not None:
        return items[1].to(torch.float32)
    if not hasattr(inputs, "pixels"):
        raise Unattributable
    real: Tensor = inputs.mask.to(torch.float32)
    return real.reshape(*real.shape, 1, 1, 1).expand(inputs.pixels.shape).contiguous()


def gated_logits(
    model: FusionModel, inputs: Any, others: Mapping[str, Tokens], modality: str, gates: Tensor, patients: Tensor
) -> Tensor:
    """Predict patients, each several times, with other gates. Shape: gates (n, ...), patients (n,) -> (n, K)."""
    mine = type(inputs)(*(part[patients] for part in inputs))
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
    return logits_with(model, tokens, others, modality, patients)


def logits_with(
    model: FusionModel, tokens: Tokens, others: Mapping[str, Tokens], modality: str, patients: Tensor
) -> Tensor:
    """Predict from new tokens of one modality and what the others say of the same patients. Shape: -> (n, K)."""
    rest = {name: Tokens(*(part[patients] for part in each)) for name, each in others.items()}
    everything = {name: clean(tokens) if name == modality else rest[name] for name in model.encoders}
    return model.predict(model.fusion(everything))

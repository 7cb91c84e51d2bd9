"""The stages of a pretrained network, and which of them are trained."""

from __future__ import annotations

from torch import nn

from encoders.limits import at_least
from fusion.component import UsageError

_ENOUGH = 4  # a network in fewer pieces is taken further apart


def stages(network: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a network that hold parameters, from its input to its output.

    They are its children: layer1 to layer4 of a ResNet. A network of fewer than four, as a transformer whose blocks
    all stand in one child, is taken apart further where it is largest. A normalisation belongs to what it follows.
    """
    found = [[network]]
    while len(found) < _ENOUGH:
        open_ = [place for place, stage in enumerate(found) if _children(stage[0])]
        if not open_:
            break
        largest = max(open_, key=lambda place: _count(found[place][0]))
        first, *following = found[largest]
        found[largest : largest + 1] = _grouped([*_children(first), *following])
    return found


def trained_stages(network: nn.Module, frozen: bool, unfrozen: int, where: str) -> list[nn.Module] | None:
    """Freeze a network but for its last `unfrozen` stages; return the modules still trained, None for all.

    Raises:
        UsageError: there are not as many stages, or the network is not frozen at all.
    """
    at_least(f"{where}: unfrozen", unfrozen, 0)
    if not frozen:
        if unfrozen:
            raise UsageError(f"{where}: unfrozen ({unfrozen}) is the part of a frozen network that is trained; "
                             "set frozen: true")  # fmt: skip
        return None
    network.requires_grad_(False)
    if not unfrozen:
        return []
    every = stages(network)
    if unfrozen > len(every):
        raise UsageError(f"{where}: unfrozen must be at most {len(every)}, the stages of the network; got {unfrozen}")
    chosen = [module for stage in every[-unfrozen:] for module in stage]
    for module in chosen:
        module.requires_grad_(True)
    return chosen


def _children(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.children() if _count(child)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _grouped(modules: list[nn.Module]) -> list[list[nn.Module]]:
    """Put each normalisation, whose parameters are all vectors, with what it follows."""
    found: list[list[nn.Module]] = []
    for module in modules:
        if found and all(parameter.dim() == 1 for parameter in module.parameters()):
            found[-1].append(module)
        else:
            found.append([module])
    return found

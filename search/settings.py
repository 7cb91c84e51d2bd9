"""Reading what a user writes about a space: names, lists, ranges and pinned values, checked against signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fusion.component import (
    Choice,
    Float,
    Genome,
    Int,
    Range,
    Spec,
    UsageError,
    check_value,
    find,
    hyperparameters,
    unknown,
)

NONE = "none"
Setting = Any  # a Range, or the value it is pinned to


def read_components(
    value: Any, catalogue: Mapping[str, type], where: str, *, optional: bool
) -> dict[str, dict[str, Setting]]:
    """Read the choice of components of one place: a name, a list of names, or a mapping of names to settings."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        value = _listed(value, where)
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"{where}: expected a name, a list of names or a mapping; got {value!r}")
    found: dict[str, dict[str, Setting]] = {}
    for name, settings in value.items():
        if name == NONE and optional:
            found[NONE] = {}
            continue
        component = find(catalogue, Spec(str(name)), where)
        found[str(name)] = _hyperparameters(component, settings or {}, f"{where}.{name}")
    if set(found) == {NONE}:
        raise UsageError(f"{where}: only '{NONE}' is left; drop the modality instead")
    return found


def _listed(names: list[Any], where: str) -> dict[str, dict[str, Setting]]:
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{where}: a list holds names; got {name!r}")
        if names.count(name) > 1:
            raise UsageError(f"{where}: lists '{name}' twice")
    return {name: {} for name in names}


def _hyperparameters(component: type, settings: Any, where: str) -> dict[str, Setting]:
    """Take the ranges of a component's signature, narrowed or pinned as the user says."""
    known = hyperparameters(component)
    if not isinstance(settings, Mapping):
        raise UsageError(f"{where}: expected a mapping of hyperparameters; got {settings!r}")
    for name in settings:
        if name not in known:
            raise unknown("hyperparameter", name, known, where)
    found: dict[str, Setting] = {}
    for name, parameter in known.items():
        if name in settings and isinstance(parameter.range, Genome):
            found[name] = _genome(parameter.range, settings[name], f"{where}.{name}")
        elif name in settings:
            found[name] = read_setting(settings[name], parameter.type, f"{where}.{name}")
            for value in ends(found[name]):
                check_value(f"{where}.{name}", parameter, value)
        elif parameter.searched:
            found[name] = parameter.range
    return found


def _genome(genome: Genome, value: Any, where: str) -> Genome:
    """Narrow a genome by the genes that are pinned to a value or have their choices listed."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a mapping of genes to a value or a list of values; got {value!r}")
    narrowed = {str(gene): tuple(each) if isinstance(each, list) else (each,) for gene, each in value.items()}
    if not all(narrowed.values()):
        raise UsageError(f"{where}: a gene needs at least one choice; got an empty list")
    return replace(genome, narrowed=narrowed)


def check_genomes(settings: Mapping[str, Setting], modalities: tuple[str, ...], where: str) -> None:
    """Refuse genes that do not exist for the modalities of a space, and choices they do not have.

    Raises:
        UsageError: the first of them.
    """
    for name, genome in settings.items():
        if not isinstance(genome, Genome):
            continue
        known = genome.options(modalities, settings)
        for gene, choices in genome.narrowed.items():
            if gene not in known:
                raise unknown("gene", gene, known, f"{where}.{name}")
            for choice in choices:
                if choice not in known[gene]:
                    raise unknown("choice", str(choice), [str(each) for each in known[gene]], f"{where}.{name}.{gene}")


def ends(setting: Setting) -> tuple[Any, ...]:
    """Return the values that decide whether a setting makes sense: a pinned one, every option, both ends of a range."""
    if isinstance(setting, Choice):
        return setting.options
    return (setting.low, setting.high) if isinstance(setting, Int | Float) else (setting,)


def read_setting(value: Any, kind: Any, where: str) -> Setting:
    """Read a pinned value, a list of choices or {low, high, log}."""
    if isinstance(value, list):
        options = tuple(_typed(option, kind, where) for option in value)
        if not options:
            raise UsageError(f"{where}: a choice needs at least one option; got an empty list")
        if len(set(options)) < len(options):
            raise UsageError(f"{where}: a choice lists each option once; got {value!r}")
        return options[0] if len(options) == 1 else Choice(*options)
    if not isinstance(value, Mapping):
        return _typed(value, kind, where)
    extra = set(value) - {"low", "high", "log"}
    if extra or not {"low", "high"} <= set(value):
        raise UsageError(f"{where}: a range is written {{low, high, log}}; got the keys {sorted(value)}")
    if kind not in (int, float):
        raise UsageError(f"{where}: a range needs a number; this is {getattr(kind, '__name__', kind)}")
    low, high, log = (
        _typed(value["low"], kind, where),
        _typed(value["high"], kind, where),
        _typed(value.get("log", False), bool, f"{where}.log"),
    )
    if low > high or (log and low <= 0):
        raise UsageError(f"{where}: low ({low}) must be {'positive and ' if log else ''}at most high ({high})")
    limits: Range = Int(low, high, log) if kind is int else Float(low, high, log)
    return low if low == high else limits


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, bool, str) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UsageError(f"{where} must be {kind.__name__}; got {value!r}")
    return value

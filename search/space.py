"""The space: encoders by modality, fusion, width and training settings, with ranges from the components' signatures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from fusion.component import (
    Architecture,
    Choice,
    Float,
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


class Suggests(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Choose a whole number."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a real number."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Choose one of some options."""
        ...


@dataclass(frozen=True)
class Candidate:
    """One point of a space: an architecture and the training settings that were searched."""

    architecture: Architecture
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data that `from_dict` reads back."""
        return {"architecture": self.architecture.to_dict(), "training": dict(self.training)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Rebuild from `to_dict`."""
        return cls(Architecture.from_dict(data["architecture"]), dict(data["training"]))

    @property
    def key(self) -> str:
        """A hash that is the same for the same candidate."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Space:
    """What may be chosen. Names encode the branch, because Optuna cannot change a distribution within a study."""

    encoders: Mapping[str, Mapping[str, Mapping[str, Setting]]]
    fusion: Mapping[str, Mapping[str, Setting]]
    dim: Setting
    training: Mapping[str, Setting]

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        encoders: Mapping[str, Mapping[str, type]],
        fusions: Mapping[str, type],
        training: Mapping[str, type],
    ) -> Space:
        """Read a space as it is written in YAML.

        Args:
            training: the names and types of training settings that may be searched.

        Raises:
            UsageError: an unknown name (with the nearest one) or a range that does not fit its type.
        """
        chosen = {}
        for modality, value in data["encoders"].items():
            if modality not in encoders:
                raise unknown("modality", modality, encoders, "space.encoders")
            chosen[modality] = _components(value, encoders[modality], f"space.encoders.{modality}", optional=True)
        settings = {}
        for name, value in data.get("training", {}).items():
            if name not in training:
                raise unknown("training setting", name, training, "space.training")
            settings[name] = _setting(value, training[name], f"space.training.{name}")
        return cls(
            chosen,
            _components(data.get("fusion", list(fusions)), fusions, "space.fusion", optional=False),
            _setting(data.get("dim", 64), int, "space.dim"),
            settings,
        )

    @property
    def fingerprint(self) -> str:
        """A hash of everything that may be chosen."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for the record and for comparing spaces."""
        encoders = {modality: _plain(options) for modality, options in self.encoders.items()}
        return {
            "encoders": encoders,
            "fusion": _plain(self.fusion),
            "dim": _value(self.dim),
            "training": {name: _value(setting) for name, setting in self.training.items()},
        }

    def suggest(self, trial: Suggests) -> Candidate | None:
        """Choose a candidate, or None where every modality was given no encoder."""
        encoders = {}
        for modality, options in self.encoders.items():
            spec = _suggest_component(trial, f"encoders.{modality}", options)
            if spec.name != NONE:
                encoders[modality] = spec
        fusion = _suggest_component(trial, "fusion", self.fusion)
        dim = _suggest(trial, "dim", self.dim)
        training = {name: _suggest(trial, f"training.{name}", setting) for name, setting in self.training.items()}
        return Candidate(Architecture(encoders, fusion, dim), training) if encoders else None

    def specs(self, modality: str) -> Iterable[Spec]:
        """Return every encoder of a modality with what is pinned, one for each value of a choice of texts.

        Texts name models, and each model needs its own preparation of the data.
        """
        for name, settings in self.encoders[modality].items():
            if name == NONE:
                continue
            pinned = {key: value for key, value in settings.items() if not isinstance(value, Int | Float | Choice)}
            texts = [
                (key, value.options)
                for key, value in settings.items()
                if isinstance(value, Choice) and all(isinstance(option, str) for option in value.options)
            ]
            specs = [pinned]
            for key, options in texts:
                specs = [{**spec, key: option} for spec in specs for option in options]
            yield from (Spec(name, spec) for spec in specs)

    def size(self) -> float:
        """Return how many combinations of the discrete choices there are."""
        total = _count(self.dim)
        for options in (*self.encoders.values(), self.fusion):
            total *= sum(math.prod(_count(each) for each in settings.values()) for settings in options.values())
        return total * math.prod(_count(setting) for setting in self.training.values())


def _components(
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
    found = {}
    for name, parameter in known.items():
        if name in settings:
            found[name] = _setting(settings[name], parameter.type, f"{where}.{name}")
            for value in ends(found[name]):
                check_value(f"{where}.{name}", parameter, value)
        elif parameter.searched:
            found[name] = parameter.range
    return found


def ends(setting: Setting) -> tuple[Any, ...]:
    """Return the values that decide whether a setting makes sense: a pinned one, every option, both ends of a range."""
    if isinstance(setting, Choice):
        return setting.options
    return (setting.low, setting.high) if isinstance(setting, Int | Float) else (setting,)


def _setting(value: Any, kind: Any, where: str) -> Setting:
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


def _suggest_component(trial: Suggests, name: str, options: Mapping[str, Mapping[str, Setting]]) -> Spec:
    names = tuple(options)
    chosen = trial.suggest_categorical(name, names) if len(names) > 1 else names[0]
    settings = options[chosen]
    return Spec(chosen, {key: _suggest(trial, f"{name}.{chosen}.{key}", setting) for key, setting in settings.items()})


def _suggest(trial: Suggests, name: str, setting: Setting) -> Any:
    if isinstance(setting, Int):
        return trial.suggest_int(name, setting.low, setting.high, log=setting.log)
    if isinstance(setting, Float):
        return trial.suggest_float(name, setting.low, setting.high, log=setting.log)
    if isinstance(setting, Choice):
        return trial.suggest_categorical(name, setting.options)
    return setting


def _plain(options: Mapping[str, Mapping[str, Setting]]) -> dict[str, Any]:
    return {name: {key: _value(setting) for key, setting in settings.items()} for name, settings in options.items()}


def _value(setting: Setting) -> Any:
    if isinstance(setting, Choice):
        return {"choice": list(setting.options)}
    return asdict(setting) if isinstance(setting, Int | Float) else setting


def _count(setting: Setting) -> float:
    if isinstance(setting, Choice):
        return len(setting.options)
    return setting.high - setting.low + 1 if isinstance(setting, Int) else 1

"""Naming, configuring and describing components: hyperparameters live in constructor signatures."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class UsageError(ValueError):
    """A mistake in what the user gave: its text is one line that names what was wanted, what came and where.

    A password in an address that is quoted is masked.
    """

    def __init__(self, text: str) -> None:
        super().__init__(masked(text))


_PASSWORD = re.compile(
    r"(?<=://)([^\s/@:'\"]*):[^\s'\"]*@|([?&;](?:password|passwd|pwd|token|secret)=)[^\s&;'\"]*", re.IGNORECASE
)

_TOKEN = re.compile(r"(https?://)[^\s/@:'\"]+@", re.IGNORECASE)  # a web address has no user but one that is a token


def masked(text: str) -> str:
    """Return a text in which no address shows its password.

    Examples:
        >>> masked("postgresql://me:secret@host/db does not answer")
        'postgresql://me:***@host/db does not answer'
    """
    text = _PASSWORD.sub(lambda found: f"{found[2]}***" if found[2] else f"{found[1]}:***@", text)
    return _TOKEN.sub(r"\1***@", text)


@dataclass(frozen=True)
class Int:
    """Whole numbers from low to high, both included."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Float:
    """Real numbers from low to high."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, init=False)
class Choice:
    """One of the listed values; where it is not `searched`, only if the user lists them in the space."""

    options: tuple[Any, ...]
    searched: bool = True

    def __init__(self, *options: Any, searched: bool = True) -> None:
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "searched", searched)


@dataclass(frozen=True)
class Genome:
    """Several choices under one name, of which only those that the modalities and other settings allow are there.

    `options` gives every gene and what it may be; `canonical` writes chosen genes the one way that all equal ones are
    written. `narrowed` holds what the user pins (one value) or lists (several).
    """

    options: Callable[[Sequence[str], Mapping[str, Any]], Mapping[str, tuple[Any, ...]]]
    canonical: Callable[[Mapping[str, Any], Sequence[str], Mapping[str, Any]], Mapping[str, Any]]
    narrowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)

    def genes(self, modalities: Sequence[str], settings: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Return the genes there are and what each may be, as the user narrowed it."""
        return {name: self.narrowed.get(name, every) for name, every in self.options(modalities, settings).items()}


Range = Int | Float | Choice | Genome


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword-only parameter of a component: its type, its default and, where it may be searched, its range."""

    name: str
    type: Any
    default: Any
    range: Range | None

    @property
    def searched(self) -> bool:
        """Whether a search chooses it unless it is pinned."""
        return self.range is not None and not (isinstance(self.range, Choice) and not self.range.searched)


@dataclass(frozen=True)
class Spec:
    """A component by name with the hyperparameters that differ from its defaults."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the flat form written in YAML: ``{"name": ..., **params}``."""
        return {"name": self.name, **self.params}

    @classmethod
    def parse(cls, value: str | Mapping[str, Any] | Spec) -> Spec:
        """Read ``"late"``, ``{"name": "late", "dropout": 0.1}`` or a ready Spec.

        Raises:
            UsageError: it is neither, or the mapping has no ``name``.
        """
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise UsageError(f"a component is a name or a mapping with a 'name'; got {value!r}")
        if not isinstance(value.get("name"), str):
            raise UsageError(f"a component needs a 'name'; got the keys {sorted(map(str, value))}")
        return cls(value["name"], {str(key): item for key, item in value.items() if key != "name"})


@dataclass(frozen=True)
class Architecture:
    """What is searched, written in YAML, logged, registered and rebuilt: encoders by modality, fusion, width, head."""

    encoders: Mapping[str, Spec]
    fusion: Spec
    dim: int = 64
    head: Spec = Spec("linear")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back; a plain linear head is not mentioned."""
        encoders = {modality: spec.to_dict() for modality, spec in self.encoders.items()}
        head = {"head": self.head.to_dict()} if self.head != Spec("linear") else {}
        return {"encoders": encoders, "fusion": self.fusion.to_dict(), "dim": self.dim, **head}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Rebuild an architecture from `to_dict` or from YAML."""
        encoders = {modality: Spec.parse(spec) for modality, spec in data["encoders"].items()}
        head = Spec.parse(data.get("head", "linear"))
        return cls(encoders, Spec.parse(data["fusion"]), int(data.get("dim", 64)), head)


def hyperparameters(component: type) -> dict[str, Hyperparameter]:
    """Read a component's hyperparameters, its keyword-only constructor parameters, from its signature."""
    hints = get_type_hints(component.__init__, include_extras=True)  # type: ignore[misc]
    found: dict[str, Hyperparameter] = {}
    for name, parameter in inspect.signature(component).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint, limits = hints.get(name, Any), None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            limits = next((extra for extra in extras if isinstance(extra, Int | Float | Choice | Genome)), None)
        found[name] = Hyperparameter(name, hint, parameter.default, limits)
    return found


def unknown(kind: str, name: str, options: Iterable[str], where: str = "") -> UsageError:
    """Make the error for a name that does not exist, with the nearest one that does."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    advice = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known) or 'none'}"
    return UsageError(f"{where + ': ' if where else ''}unknown {kind} '{name}'; {advice}")


def find(catalogue: Mapping[str, type], spec: Spec, where: str = "") -> type:
    """Return the class a spec names, having checked its hyperparameters' names and types.

    Raises:
        UsageError: no such component, no such hyperparameter, or a value of another type.
    """
    if spec.name not in catalogue:
        raise unknown("component", spec.name, catalogue, where)
    component = catalogue[spec.name]
    known = hyperparameters(component)
    for name, value in spec.params.items():
        if name not in known:
            raise unknown(f"hyperparameter of {spec.name}", name, known, where)
        check_value(f"{where + ': ' if where else ''}{spec.name}.{name}", known[name], value)
    return component


def build(catalogue: Mapping[str, type], spec: Spec, *args: Any, where: str = "") -> Any:
    """Construct the component a spec names with the given positional arguments."""
    return find(catalogue, spec, where)(*args, **spec.params)


_CHECKED = (int, float, bool, str, type(None), Mapping)


def check_type(where: str, wanted: Any, value: Any) -> None:
    """Refuse a value that is not of the type a signature states; whole numbers are real numbers too.

    Raises:
        UsageError: it is of another type.
    """
    kinds = [get_origin(kind) or kind for kind in get_args(wanted) or (wanted,)]
    if any(kind not in _CHECKED for kind in kinds):
        return
    accepted = tuple(kinds) + ((int,) if float in kinds else ())
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise UsageError(f"{where} must be {names}; got {value!r}")


def check_value(where: str, parameter: Hyperparameter, value: Any) -> None:
    """Refuse a value of another type or without sense; beyond the searched range but sensible is allowed.

    Raises:
        UsageError: another type, an unknown name, no finite number, no layers, or a share that is not from 0 to 1.
    """
    check_type(where, parameter.type, value)
    limits = parameter.range
    if isinstance(limits, Choice) and parameter.type is str and value not in limits.options:
        raise unknown("value", str(value), [str(option) for option in limits.options], where)
    if limits is None or isinstance(limits, Genome) or parameter.type not in (int, float):
        return
    if not math.isfinite(value):
        raise UsageError(f"{where} must be a finite number; got {value}")
    least = min(limits.options) if isinstance(limits, Choice) else limits.low
    most = max(limits.options) if isinstance(limits, Choice) else limits.high
    floor = 1 if parameter.type is int and least >= 1 else 0
    if least >= 0 and value < floor:
        raise UsageError(f"{where} must be at least {floor}; got {value}")
    if parameter.type is float and least >= 0 and most <= 1 and value > 1:
        raise UsageError(f"{where} must be from 0 to 1; got {value}")

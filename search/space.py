"""The space: encoders by modality, fusion, width and training settings, with ranges from the components' signatures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from fusion.component import Architecture, Choice, Float, Genome, Int, Range, Spec, unknown
from search.duplicates import canonical
from search.settings import NONE, Setting, check_genomes, read_components, read_setting


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
        """A hash that is the same for the same candidate, however it is written."""
        plain = {"architecture": canonical(self.architecture), "training": dict(self.training)}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Space:
    """What may be chosen. Names encode the branch, because Optuna cannot change a distribution within a study.

    All candidates have the same head. `needs` says which training settings matter only where another has one of some
    values: elsewhere they are not drawn.
    """

    encoders: Mapping[str, Mapping[str, Mapping[str, Setting]]]
    fusion: Mapping[str, Mapping[str, Setting]]
    dim: Setting
    training: Mapping[str, Setting]
    needs: Mapping[str, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    head: Spec = field(default_factory=lambda: Spec("linear"))

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        encoders: Mapping[str, Mapping[str, type]],
        fusions: Mapping[str, type],
        training: Mapping[str, type],
        needs: Mapping[str, tuple[str, tuple[Any, ...]]] | None = None,
    ) -> Space:
        """Read a space as it is written in YAML.

        Args:
            training: the names and types of training settings that may be searched.
            needs: of these, which matter only where another has one of some values.

        Raises:
            UsageError: an unknown name (with the nearest one) or a range that does not fit its type.
        """
        chosen = {}
        for modality, value in data["encoders"].items():
            if modality not in encoders:
                raise unknown("modality", modality, encoders, "space.encoders")
            chosen[modality] = read_components(value, encoders[modality], f"space.encoders.{modality}", optional=True)
        settings = {}
        for name, value in data.get("training", {}).items():
            if name not in training:
                raise unknown("training setting", name, training, "space.training")
            settings[name] = read_setting(value, training[name], f"space.training.{name}")
        fusion = read_components(data.get("fusion", list(fusions)), fusions, "space.fusion", optional=False)
        for name, each in fusion.items():
            check_genomes(each, tuple(chosen), f"space.fusion.{name}")
        dim, head = read_setting(data.get("dim", 64), int, "space.dim"), Spec.parse(data.get("head", "linear"))
        return cls(chosen, fusion, dim, settings, needs or {}, head)

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
            **({"head": self.head.to_dict()} if self.head != Spec("linear") else {}),
        }

    def suggest(self, trial: Suggests) -> Candidate | None:
        """Choose a candidate, or None where every modality was given no encoder."""
        encoders = {}
        for modality, options in self.encoders.items():
            spec = _suggest_component(trial, f"encoders.{modality}", options)
            if spec.name != NONE:
                encoders[modality] = spec
        fusion = _suggest_component(trial, "fusion", self.fusion, tuple(self.encoders), tuple(encoders))
        dim = _suggest(trial, "dim", self.dim)
        training = self._suggest_training(trial)
        return Candidate(Architecture(encoders, fusion, dim, self.head), training) if encoders else None

    def _suggest_training(self, trial: Suggests) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in sorted(self.training, key=lambda each: each in self.needs):  # those that others need come first
            other, values = self.needs.get(name, ("", ()))
            if other not in self.training or found[other] in values:
                found[name] = _suggest(trial, f"training.{name}", self.training[name])
        return found

    def fixed(self, architecture: Architecture) -> dict[str, Any]:
        """Return the choices by name that give an architecture, as far as this space leaves them open."""
        found: dict[str, Any] = {"dim": architecture.dim}
        places = {f"encoders.{modality}": modality for modality in self.encoders}
        for where, modality in places.items():
            spec = architecture.encoders.get(modality, Spec(NONE))
            found |= {where: spec.name, **{f"{where}.{spec.name}.{key}": each for key, each in spec.params.items()}}
        fusion = architecture.fusion
        found["fusion"] = fusion.name
        for key, value in fusion.params.items():
            where = f"fusion.{fusion.name}.{key}"
            found |= (
                {f"{where}.{gene}": each for gene, each in value.items()}
                if isinstance(value, Mapping)
                else {where: value}
            )
        return found

    def specs(self, modality: str) -> Iterable[Spec]:
        """Return every encoder of a modality with what is pinned, one for each value of a choice of texts.

        Texts name models, and each model needs its own preparation of the data.
        """
        for name, settings in self.encoders[modality].items():
            if name == NONE:
                continue
            pinned = {key: value for key, value in settings.items() if not isinstance(value, Range)}
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
        total = _count(self.dim) * math.prod(_count(setting) for setting in self.training.values())
        for options in (*self.encoders.values(), self.fusion):
            total *= sum(self._size(settings) for settings in options.values())
        return total

    def _size(self, settings: Mapping[str, Setting]) -> float:
        genomes = [each.genes(tuple(self.encoders), settings) for each in settings.values() if isinstance(each, Genome)]
        genes = math.prod(len(choices) for genome in genomes for choices in genome.values())
        return genes * math.prod(_count(each) for each in settings.values())


def _suggest_component(
    trial: Suggests,
    name: str,
    options: Mapping[str, Mapping[str, Setting]],
    every: tuple[str, ...] = (),
    present: tuple[str, ...] = (),
) -> Spec:
    names = tuple(options)
    chosen = trial.suggest_categorical(name, names) if len(names) > 1 else names[0]
    found: dict[str, Any] = {}
    for key, setting in options[chosen].items():
        where = f"{name}.{chosen}.{key}"
        if isinstance(setting, Genome):
            found[key] = _suggest_genes(trial, where, setting, options[chosen], every, present)
        else:
            found[key] = _suggest(trial, where, setting)
    return Spec(chosen, found)


def _suggest_genes(
    trial: Suggests,
    name: str,
    genome: Genome,
    settings: Mapping[str, Setting],
    every: tuple[str, ...],
    present: tuple[str, ...],
) -> dict[str, Any]:
    """Choose the genes of the modalities that are there, each among all that it might ever be.

    Optuna cannot change a distribution within a study, so a gene may come out as something that needs a modality which
    has no encoder this time; it is then the gene's first choice, which changes nothing.
    """
    possible, found = genome.options(present, settings), {}
    for gene, choices in genome.genes(every, settings).items():
        if gene in possible:
            value = trial.suggest_categorical(f"{name}.{gene}", choices) if len(choices) > 1 else choices[0]
            found[gene] = value if value in possible[gene] else possible[gene][0]
    return dict(genome.canonical(found, present, settings)) if present else found


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
    if isinstance(setting, Genome):
        return {"genes": {gene: list(choices) for gene, choices in setting.narrowed.items()}}
    return asdict(setting) if isinstance(setting, Int | Float) else setting


def _count(setting: Setting) -> float:
    if isinstance(setting, Choice):
        return len(setting.options)
    return setting.high - setting.low + 1 if isinstance(setting, Int) else 1

"""Samplers by name: how a study chooses its next candidate."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping

import optuna
from optuna.samplers import BaseSampler

from fusion.component import Choice, Genome, Range, UsageError
from search.evolution import EvolutionSampler
from search.progressive import ProgressiveSampler
from search.settings import Setting
from search.space import Space

SAMPLERS = ("tpe", "random", "gp", "cmaes", "nsga2", "nsga3", "evolution", "progressive")
POPULATION = 20  # of the evolutionary samplers: a study has tens of trials, not thousands


def make_sampler(name: str, seed: int, *, startup_trials: int = 10, group: bool = False) -> BaseSampler:
    """Build a sampler; each worker has its own seed.

    - `tpe`: tree-structured Parzen estimators over the parameters that trials share, Optuna's default.
    - `random`: the control.
    - `gp`: a Gaussian process over the parameters that all trials share, expected improvement in logarithms; the
      others are drawn at random, so it suits spaces with few branches.
    - `cmaes`: covariance matrix adaptation, for spaces of numbers only.
    - `nsga2`, `nsga3`: genetic algorithms for several objectives; with one, a plain genetic algorithm. They too cross
      what all trials share, and draw the rest.
    - `evolution`: regularised evolution, one change at a time.
    - `progressive`: candidates grow place by place, as a surrogate expects of their beginnings.

    Of trials over limits, `tpe` learns to avoid them; `nsga2`, `nsga3` and `evolution` give them no offspring; `gp`,
    `cmaes` and `progressive` do not see those that ended before they were trained, so they do not go with limits.

    Raises:
        UsageError: the sampler needs a package that is not installed.

    Reference:
        Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011 (TPE); Hansen, The CMA Evolution Strategy,
        2016; Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002; Deb, Jain, 2014
        (NSGA-III).
    """
    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the user asked for it by name
        makers: Mapping[str, Callable[[], BaseSampler]] = {
            "random": lambda: samplers.RandomSampler(seed=seed),
            "tpe": lambda: _tpe(seed, startup_trials, group),
            "gp": lambda: samplers.GPSampler(
                seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False
            ),
            "cmaes": lambda: _cmaes(seed, startup_trials),
            "nsga2": lambda: samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
            "nsga3": lambda: samplers.NSGAIIISampler(seed=seed, population_size=POPULATION),
            "evolution": lambda: EvolutionSampler(seed, population=POPULATION, startup_trials=startup_trials),
            "progressive": lambda: ProgressiveSampler(seed, startup_trials=startup_trials),
        }
        return makers[name]()


def check_sampler(name: str, space: Space) -> None:
    """Refuse a sampler that cannot search a space.

    Raises:
        UsageError: `cmaes`, and a place that is no number; the first such place is named.
    """
    place = next(_choices(space), None) if name == "cmaes" else None
    if place is not None:
        raise UsageError(
            f"search.sampler 'cmaes' searches numbers only, and {place} is a choice: pin it, write a range "
            "{low, high}, or take tpe or evolution"
        )


def sampler_note(name: str, space: Space) -> str | None:
    """Say what a sampler draws at random although it searches the rest, None where that is nothing."""
    place = next(_branches(space), None) if name in ("gp", "nsga2", "nsga3") else None
    if place is None:
        return None
    return (
        f"search.sampler '{name}' learns only about what all candidates have; what hangs on a choice, first at "
        f"{place}, is drawn at random; tpe and evolution learn about that too"
    )


def _branches(space: Space) -> Iterator[str]:
    """Yield the places of which one option has settings that another lacks."""
    for where, options in _places(space).items():
        ranged = any(isinstance(value, Range) for settings in options.values() for value in settings.values())
        if len(options) > 1 and ranged:
            yield where
    yield from (
        f"space.training.{name}" for name in space.training if space.needs.get(name, ("",))[0] in space.training
    )


def _places(space: Space) -> dict[str, Mapping[str, Mapping[str, Setting]]]:
    encoders = {f"space.encoders.{modality}": options for modality, options in space.encoders.items()}
    return {**encoders, "space.fusion": space.fusion}


def _choices(space: Space) -> Iterator[str]:
    """Yield the places of a space that are no numbers."""
    for where, options in _places(space).items():
        if len(options) > 1:
            yield where
        for name, settings in options.items():
            yield from (f"{where}.{name}.{key}" for key, value in settings.items() if _discrete(value))
    settings = {"dim": space.dim, **{f"training.{name}": value for name, value in space.training.items()}}
    yield from (f"space.{name}" for name, value in settings.items() if _discrete(value))


def _discrete(value: object) -> bool:
    return isinstance(value, Choice | Genome)


def _tpe(seed: int, startup_trials: int, group: bool) -> BaseSampler:
    if not group:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup_trials)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True)


def _cmaes(seed: int, startup_trials: int) -> BaseSampler:
    if importlib.util.find_spec("cmaes") is None:
        raise UsageError("search.sampler 'cmaes' needs a package: pip install 'ehrfusion[cmaes]'")
    from search.cmaes import SafeCmaEsSampler

    return SafeCmaEsSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)

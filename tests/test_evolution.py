"""Samplers by name: each searches, evolution changes one place at a time, CMA-ES only numbers."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.trial import FrozenTrial
from toy_trials import SPACE

from fusion import UsageError
from fusion.component import Choice, Float, Int
from search.evolution import EvolutionSampler
from search.samplers import SAMPLERS, check_sampler, make_sampler
from search.space import Space

PLACES = 12
NUMBERS = Space({"codes": {"bag": {"layers": Int(1, 6)}}}, {"late": {}}, 16, {"lr": Float(1e-4, 1e-2, True)})


def planted(trial: optuna.Trial) -> float:
    """Every place has one right option of four."""
    return float(
        sum(trial.suggest_categorical(f"place{i}", ("a", "b", "c", "d")) == "abcd"[i % 4] for i in range(PLACES))
    )


def best(make: Callable[[int], optuna.samplers.BaseSampler], trials: int = 80, seeds: int = 5) -> list[float]:
    found = []
    for seed in range(seeds):
        study = optuna.create_study(sampler=make(seed), direction="maximize")
        study.optimize(planted, n_trials=trials)
        found.append(study.best_value)
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_searches_and_repeats(name: str) -> None:
    space = NUMBERS if name == "cmaes" else SPACE

    def values(seed: int) -> list[dict[str, object]]:
        study = optuna.create_study(sampler=make_sampler(name, seed, startup_trials=4), direction="maximize")
        study.optimize(lambda trial: float(space.suggest(trial) is not None) + trial.number / 10, n_trials=12)
        return [trial.params for trial in study.get_trials()]

    first = values(1)
    assert len(first) == 12
    assert first == values(1)
    assert first != values(2)


def test_a_child_differs_from_its_parent_in_one_place() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(0, population=8, tournament=3, startup_trials=6))
    study.optimize(planted, n_trials=30)
    trials = study.get_trials()
    for child in trials[6:]:
        young = trials[max(0, child.number - 8) : child.number]
        nearest = min(sum(child.params[name] != each.params[name] for name in child.params) for each in young)
        assert nearest <= 1, "and the parent is one of the youngest eight"
        assert not any(child.params == each.params for each in young) or nearest == 0


def test_evolution_beats_random_search_where_places_count_one_by_one() -> None:
    ours = best(lambda seed: EvolutionSampler(seed, startup_trials=10))
    random = best(lambda seed: optuna.samplers.RandomSampler(seed))
    assert min(ours) > max(random)


def test_numbers_move_and_stay_in_their_range() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(3, startup_trials=3))

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("lr", 1e-4, 1e-2, log=True) + trial.suggest_int("layers", 1, 3)

    study.optimize(objective, n_trials=40)
    trials: list[FrozenTrial] = study.get_trials()
    assert all(1e-4 <= each.params["lr"] <= 1e-2 and 1 <= each.params["layers"] <= 3 for each in trials)
    assert len({each.params["lr"] for each in trials}) > 15
    assert len({(each.params["lr"], each.params["layers"]) for each in trials}) > 25


def test_what_hangs_on_a_changed_choice_is_drawn_anew() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(1, startup_trials=4))
    study.optimize(lambda trial: float(SPACE.suggest(trial) is not None), n_trials=40)
    encoders = {trial.params["encoders.codes"] for trial in study.get_trials()[4:]}
    assert encoders == {"bag", "gru"}


@pytest.mark.parametrize(
    ("space", "place"),
    [
        (SPACE, "space.encoders.codes"),
        (Space({"codes": {"bag": {}}}, {"late": {}, "early": {}}, 16, {}), "space.fusion"),
        (Space({"codes": {"bag": {"pool": Choice("a", "b")}}}, {"late": {}}, 16, {}), "space.encoders.codes.bag.pool"),
        (Space({"codes": {"bag": {}}}, {"late": {}}, Choice(16, 32), {}), "space.dim"),
    ],
)
def test_cma_es_searches_numbers_only(space: Space, place: str) -> None:
    with pytest.raises(
        UsageError, match=rf"^search.sampler 'cmaes' searches numbers only, and {place} is a choice: pin"
    ):
        check_sampler("cmaes", space)
    check_sampler("cmaes", NUMBERS)
    check_sampler("tpe", space)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"^search.sampler 'cmaes' needs a package: pip install 'ehrfusion\[cmaes\]'$"):
        make_sampler("cmaes", 0)

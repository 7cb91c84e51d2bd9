"""Progressive search: it finds what is planted, learns from beginnings; and what samplers do not learn about."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from test_evolution import best
from toy_trials import SPACE

from fusion.component import Choice, Float, Int
from search.objectives import judged, last_score
from search.progressive import ProgressiveSampler, _beginnings, _scaled
from search.samplers import SAMPLERS, sampler_note
from search.space import Space

AB = CategoricalDistribution(("a", "b"))


def test_it_beats_random_search_where_places_count_one_by_one() -> None:
    ours = best(lambda seed: ProgressiveSampler(seed), seeds=3)
    random = best(lambda seed: optuna.samplers.RandomSampler(seed), seeds=3)
    assert min(ours) > max(random)


def test_it_learns_which_fusion_belongs_to_which_encoder() -> None:
    """Neither place says anything alone: the better half is where both agree, in either direction of the score."""
    for direction, sign in (("maximize", 1.0), ("minimize", -1.0)):
        study = optuna.create_study(sampler=ProgressiveSampler(1), direction=direction)

        def agree(trial: optuna.Trial, sign: float = sign) -> float:
            first, second = (trial.suggest_categorical(name, ("a", "b", "c", "d")) for name in ("encoder", "fusion"))
            return sign * float(first == second)

        study.optimize(agree, n_trials=60)
        late = [abs(each.values[0]) for each in study.get_trials()[40:]]
        assert sum(late) > 15, "a quarter would by chance"


def test_a_number_moves_to_where_it_is_good() -> None:
    study = optuna.create_study(sampler=ProgressiveSampler(0), direction="minimize")
    study.optimize(lambda trial: abs(trial.suggest_float("lr", 1e-4, 1e-1, log=True) - 1e-2), n_trials=50)
    found = sorted(each.params["lr"] for each in study.get_trials()[25:])
    assert 5e-3 < found[len(found) // 2] < 2e-2, "the median of the whole range is 3e-3"


def test_beginnings_and_scales_by_hand() -> None:
    trial = create_trial(value=1.0, params={"z": "a", "y": 0.5}, distributions={"z": AB, "y": FloatDistribution(0, 1)})
    assert [params for params, _ in _beginnings(trial)] == [{"z": "a"}, {"z": "a", "y": 0.5}], "in the order drawn"
    assert _scaled("a", AB) == 1.0
    assert _scaled(3, IntDistribution(1, 5)) == 1.5
    assert _scaled(1e-3, FloatDistribution(1e-4, 1e-2, log=True)) == pytest.approx(1.5)
    assert _scaled(2, IntDistribution(2, 2)) == 1.0


def test_who_teaches() -> None:
    study = optuna.create_study(direction="maximize")
    for state, value, attributes, reports in (
        (TrialState.COMPLETE, 0.5, {}, {1: 0.4}),
        (TrialState.PRUNED, None, {}, {1: 0.3, 3: 0.2}),
        (TrialState.PRUNED, None, {}, {}),
        (TrialState.COMPLETE, 0.9, {"duplicate_of": 0}, {}),
        (TrialState.COMPLETE, 0.9, {"limits": [0.1]}, {}),
        (TrialState.FAIL, None, {}, {1: 0.9}),
    ):
        study.add_trial(create_trial(state=state, value=value, user_attrs=attributes, intermediate_values=reports))
    assert [(each.number, last_score(each)) for each in judged(study)] == [(0, 0.5), (1, 0.2)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_say_what_they_draw_at_random(name: str) -> None:
    flat = Space({"codes": {"bag": {"layers": Int(1, 3)}}}, {"late": {}, "early": {}}, Choice(16, 32), {})
    training = {"average": Choice("none", "ema"), "average_decay": Float(0.9, 0.99)}
    needs = Space({"codes": {"bag": {}}}, {"late": {}}, 16, training, {"average_decay": ("average", ("ema",))})
    assert sampler_note(name, flat) is None
    if name not in ("gp", "nsga2", "nsga3"):
        assert sampler_note(name, SPACE) is None
        return
    assert sampler_note(name, SPACE) == (
        f"search.sampler '{name}' learns only about what all candidates have; what hangs on a choice, first at "
        "space.encoders.codes, is drawn at random; tpe and evolution learn about that too"
    )
    assert "first at space.training.average_decay," in str(sampler_note(name, needs))

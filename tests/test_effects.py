"""What a component is worth: planted effects are found, each with an interval, and luck is called luck."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.effects import component_effects


def trial(score: float, fusion: str, **encoders: str) -> FrozenTrial:
    specs: dict[str, Any] = {modality: {"name": name} for modality, name in encoders.items()}
    architecture = {"encoders": specs, "fusion": {"name": fusion}}
    return create_trial(state=TrialState.COMPLETE, value=score, user_attrs={"architecture": architecture})


def planted(count: int, effect: float, seed: int = 0) -> list[FrozenTrial]:
    """`gru` is worth an effect over `bag`, and is mostly tried with `late`, which is worth nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        encoder = "gru" if rng.random() < 0.5 else "bag"
        fusion = "late" if rng.random() < (0.8 if encoder == "gru" else 0.2) else "early"
        found.append(trial(0.7 + effect * (encoder == "gru") + 0.01 * rng.normal(), fusion, codes=encoder))
    return found


def test_an_effect_is_found_and_not_credited_to_what_goes_with_it() -> None:
    found = {(each.place, each.component): each for each in component_effects(planted(60, 0.1))}
    gru, bag, late = found["codes", "gru"], found["codes", "bag"], found["fusion", "late"]
    assert abs(gru.value - 0.05) < 0.01, "half of the difference, around the mean of the place"
    assert gru.value == -bag.value
    assert gru.clear
    assert bag.clear
    assert abs(late.value) < 0.01
    assert not late.clear
    assert gru.low < gru.value < gru.high


def test_luck_is_not_clear() -> None:
    clear = [each.clear for seed in range(10) for each in component_effects(planted(20, 0.0, seed))]
    assert np.mean(clear) < 0.3


def test_a_modality_left_out_is_a_choice_too() -> None:
    trials = [trial(0.8, "late", codes="bag", notes="bag") for _ in range(6)]
    trials += [trial(0.6, "late", codes="bag") for _ in range(6)]
    found = component_effects(trials)
    assert [(each.place, each.component, each.trials) for each in found] == [("notes", "bag", 6), ("notes", "none", 6)]
    assert found[0].value > 0.08


def test_too_few_trials_say_nothing() -> None:
    assert component_effects(planted(7, 0.5)) == []
    assert component_effects([trial(0.7, "late", codes="bag") for _ in range(9)]) == [], "nothing was varied"

"""What a space suggests: names, sizes, fingerprints, draws of the real catalogues."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from toy_components import space

from encoders import ENCODERS
from experiments.studies import SEARCHED
from fusion import FUSIONS
from fusion.component import Architecture, Choice, Float, Int, Spec
from search.space import NONE, Candidate, Space


class Recorded:
    """Stands for a trial: answers from a mapping, else with the lowest value, and keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers, self.asked = dict(answers or {}), dict[str, Any]()

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked[name] = Int(low, high, log)
        return int(self.answers.get(name, low))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = Float(low, high, log)
        return float(self.answers.get(name, low))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.asked[name] = Choice(*choices)
        return self.answers.get(name, choices[0])


# size, preparations and identity


def test_size_counts_discrete_combinations() -> None:
    found = space(
        encoders={"codes": ["bag", "recurrent"], "notes": ["bag", NONE]},
        fusion=["late", "early"],
        dim=[16, 32, 64],
        training={"lr": {"low": 1e-4, "high": 1e-2}, "batch_size": {"low": 8, "high": 11}},
    )
    codes = 1 + 3 * 2  # bag, or recurrent with 3 numbers of layers and 2 cells; real numbers count as one
    assert found.size() == codes * 2 * (1 + 4) * 3 * 4


def test_one_specification_for_each_text_that_names_a_model() -> None:
    found = space(encoders={"notes": {"none": None, "bag": {}, "pretrained": {"tune": True, "pooling": "mean"}}})
    assert list(found.specs("notes")) == [
        Spec("bag"),
        Spec("pretrained", {"tune": True, "pooling": "mean", "model": "small"}),
        Spec("pretrained", {"tune": True, "pooling": "mean", "model": "large"}),
    ]
    every = list(space(encoders={"notes": "pretrained"}).specs("notes"))
    assert len(every) == 2 * 3
    assert len({json.dumps(spec.to_dict(), sort_keys=True) for spec in every}) == 6


def test_fingerprint_is_of_what_may_be_chosen_and_not_of_how_it_is_written() -> None:
    written = space(encoders={"codes": "recurrent"}, dim=[32])
    spelled = space(
        encoders={"codes": {"recurrent": {"cell": ["gru", "lstm"], "layers": {"low": 1, "high": 3}}}}, dim=32
    )
    assert written.fingerprint == spelled.fingerprint
    others = [
        space(encoders={"codes": {"recurrent": {"layers": {"low": 1, "high": 2}}}}),
        space(encoders={"codes": ["recurrent", "bag"]}),
        space(encoders={"codes": "recurrent"}, dim=[32, 64]),
        space(encoders={"codes": "recurrent"}, training={"lr": 1e-3}),
        space(encoders={"codes": "recurrent"}, fusion="early"),
    ]
    assert len({each.fingerprint for each in (written, *others)}) == 6


def test_fingerprint_survives_json() -> None:
    found = space(encoders={"codes": ["bag", "recurrent"]}, dim=[16, 32], training={"lr": {"low": 0.1, "high": 1}})
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert found.to_dict()["dim"] == {"choice": [16, 32]}
    assert found.to_dict()["training"]["lr"] == {"low": 0.1, "high": 1.0, "log": False}


# choosing


def test_names_encode_the_branch() -> None:
    found = space(
        encoders={"codes": ["bag", "recurrent"], "notes": {"none": {}, "pretrained": {"model": "small"}}},
        fusion=["late", "early"],
        dim=[16, 32],
        training={"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    )
    trial = Recorded({"encoders.codes": "recurrent", "encoders.notes": NONE, "fusion": "early", "dim": 32})
    candidate = found.suggest(trial)
    assert trial.asked == {
        "encoders.codes": Choice("bag", "recurrent"),
        "encoders.codes.recurrent.layers": Int(1, 3),
        "encoders.codes.recurrent.dropout": Float(0.0, 0.5),
        "encoders.codes.recurrent.cell": Choice("gru", "lstm"),
        "encoders.notes": Choice(NONE, "pretrained"),
        "fusion": Choice("late", "early"),
        "fusion.early.layers": Int(1, 4),
        "dim": Choice(16, 32),
        "training.lr": Float(1e-4, 1e-2, True),
    }
    recurrent = Spec("recurrent", {"layers": 1, "dropout": 0.0, "cell": "gru"})
    assert candidate == Candidate(Architecture({"codes": recurrent}, Spec("early", {"layers": 1}), 32), {"lr": 1e-4})


def test_what_is_pinned_is_not_asked() -> None:
    trial = Recorded()
    candidate = space(encoders={"codes": {"recurrent": {"layers": 2, "dropout": 0.0, "cell": "gru"}}}).suggest(trial)
    assert trial.asked == {}
    assert candidate is not None
    assert candidate.architecture.encoders["codes"].params == {"layers": 2, "dropout": 0.0, "cell": "gru"}


def test_no_encoder_at_all_is_no_candidate() -> None:
    found = space(encoders={"codes": ["bag", NONE], "notes": ["bag", NONE]})
    assert found.suggest(Recorded({"encoders.codes": NONE, "encoders.notes": NONE})) is None
    half = found.suggest(Recorded({"encoders.codes": NONE, "encoders.notes": "bag"}))
    assert half is not None
    assert set(half.architecture.encoders) == {"notes"}


def test_a_fixed_trial_gives_the_candidate_it_names() -> None:
    found = space(encoders={"codes": ["bag", "recurrent"]}, fusion=["late", "early"], dim={"low": 8, "high": 64})
    trial = optuna.trial.FixedTrial({"encoders.codes": "bag", "fusion": "early", "fusion.early.layers": 4, "dim": 9})
    assert found.suggest(trial) == Candidate(Architecture({"codes": Spec("bag")}, Spec("early", {"layers": 4}), 9))


def test_real_trials_never_change_a_distribution() -> None:
    """Optuna refuses a name whose distribution changes within a study; 60 draws visit every branch."""
    found = space(
        encoders={"codes": ["bag", "recurrent"], "notes": ["bag", "pretrained", NONE]},
        fusion=["late", "early"],
        dim={"low": 8, "high": 64, "log": True},
        training={"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    kinds: dict[str, BaseDistribution] = {}
    for _ in range(60):
        trial = study.ask()
        candidate = found.suggest(trial)
        assert candidate is not None
        for name, distribution in trial.distributions.items():
            assert kinds.setdefault(name, distribution) == distribution
        codes = candidate.architecture.encoders["codes"]
        assert trial.params["encoders.codes"] == codes.name
        assert {f"encoders.codes.{codes.name}.{key}" for key in codes.params} == {
            name for name in trial.params if name.startswith("encoders.codes.")
        }
        study.tell(trial, 0.0)
    assert kinds["dim"] == IntDistribution(8, 64, log=True)
    assert kinds["training.lr"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert kinds["encoders.notes"] == CategoricalDistribution(("bag", "pretrained", NONE))
    assert set(kinds) >= {"encoders.codes.recurrent.layers", "encoders.notes.pretrained.heads", "fusion.early.layers"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_draw_of_the_real_catalogues_is_valid_and_keeps_through_json(seed: int) -> None:
    every = {modality: [*options] for modality, options in ENCODERS.items()}
    found = Space.from_dict({"encoders": every}, ENCODERS, FUSIONS, SEARCHED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    candidate = found.suggest(study.ask())
    assert candidate is not None
    again = Candidate.from_dict(json.loads(json.dumps(candidate.to_dict())))
    assert again == candidate
    assert again.key == candidate.key
    pinned = Space.from_dict(  # what was drawn can be written down as a space of one point
        {
            "encoders": {m: {s.name: dict(s.params)} for m, s in candidate.architecture.encoders.items()},
            "fusion": {candidate.architecture.fusion.name: dict(candidate.architecture.fusion.params)},
            "dim": candidate.architecture.dim,
        },
        ENCODERS,
        FUSIONS,
        SEARCHED,
    )
    assert pinned.suggest(Recorded()) == candidate
    assert math.isclose(pinned.size(), 1.0)


class _Keys:
    """Candidates that differ in one place each."""

    base: ClassVar = Candidate(Architecture({"codes": Spec("bag")}, Spec("late"), 32), {"lr": 1e-3})
    others: ClassVar = [
        Candidate(Architecture({"codes": Spec("recurrent")}, Spec("late"), 32), {"lr": 1e-3}),
        Candidate(Architecture({"codes": Spec("bag")}, Spec("early"), 32), {"lr": 1e-3}),
        Candidate(Architecture({"codes": Spec("bag")}, Spec("late"), 64), {"lr": 1e-3}),
        Candidate(Architecture({"codes": Spec("bag")}, Spec("late"), 32), {"lr": 2e-3}),
        Candidate(Architecture({"notes": Spec("bag")}, Spec("late"), 32), {"lr": 1e-3}),
    ]


def test_the_key_of_a_candidate_tells_candidates_apart() -> None:
    assert len({each.key for each in (_Keys.base, *_Keys.others)}) == 6
    encoders = {"codes": Spec("bag"), "notes": Spec("bag")}
    one = Candidate(Architecture(encoders, Spec("late"), 32), {"lr": 1.0, "clip": 2.0})
    turned = Candidate(
        Architecture(dict(reversed(encoders.items())), Spec("late"), 32), dict(reversed(one.training.items()))
    )
    assert one.key == turned.key  # the order in which things are written does not matter

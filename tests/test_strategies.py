"""Training strategies: each does what it says by hand, and resumes exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_training import PREPROCESS, numbers

from experiments.averaging import WeightAverage
from experiments.config import TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.loop import Stopped
from experiments.optimizer import layer_scales, make_optimizer, set_pace, warm_up
from experiments.strategies.alignment import Alignment
from experiments.strategies.balance import InfoReg, OgmGe
from experiments.strategies.blending import GradientBlend, keep_back
from experiments.studies import SEARCHED
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture, EarlyFusion, FusionModel, Spec, Tokens, UsageError

ENCODERS = {"codes": Spec("bag"), "notes": Spec("bag", {"dropout": 0.3})}
STRATEGIES: dict[str, dict[str, Any]] = {
    "unimodal": {"unimodal_loss": 0.5},
    "alignment": {"alignment": 0.1},
    "ogm_ge": {"balance": "ogm_ge"},
    "info_reg": {"balance": "info_reg", "balance_strength": 1.0},
    "gradient_blend": {"balance": "gradient_blend"},
    "focal": {"focal_gamma": 2.0, "label_smoothing": 0.1, "class_weights": True},
    "ema": {"average": "ema", "average_decay": 0.9},
    "swa": {"average": "swa"},
    "layers": {"layer_decay": 0.5},
    "all": {"unimodal_loss": 0.3, "alignment": 0.1, "balance": "info_reg", "average": "ema", "layer_decay": 0.7},
}


@pytest.fixture(scope="module")
def store(small_folder: Path) -> Store:
    data = {"folder": small_folder, "labels": "outcome", "preprocess": PREPROCESS}
    model = {"encoders": {"codes": "bag"}}
    return open_store(parse_config({"name": "t", "runs": small_folder.parent, "data": data, "model": model}))


def run(
    store: Store, fusion: str = "early", encoders: dict[str, Spec] = ENCODERS, seed: int = 1, **options: Any
) -> Fit:
    """Train for four epochs, unless told otherwise; keys of `options` that are no settings are passed on."""
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 32, "warmup_steps": 5, "patience": 50, "lr": 1e-2}
    for name in [name for name in options if name in TrainingConfig.model_fields]:
        settings[name] = options.pop(name)
    architecture = Architecture(encoders, Spec(fusion), 8)
    return train(architecture, store, TrainingConfig(**settings), 1, preprocess=PREPROCESS, **options)


@pytest.mark.parametrize("settings", STRATEGIES.values(), ids=STRATEGIES)
def test_a_run_with_a_strategy_differs_repeats_and_resumes_exactly(
    store: Store, tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole = run(store, **settings)
    assert numbers(whole) != numbers(run(store))
    assert numbers(whole) == numbers(run(store, **settings))
    assert set(whole.model.state_dict()) == set(run(store, epochs=1).model.state_dict()), (
        "training leaves weights behind"
    )
    asked = 0

    def once() -> bool:
        nonlocal asked
        asked += 1
        return asked == 9  # in the third epoch

    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        run(store, **settings, checkpoint=path, should_stop=once)
    resumed = run(store, **settings, checkpoint=path)
    assert numbers(resumed) == numbers(whole)
    other = whole.model.state_dict()
    assert all(torch.equal(each, other[name]) for name, each in resumed.model.state_dict().items())


@pytest.mark.parametrize("settings", STRATEGIES.values(), ids=STRATEGIES)
def test_one_modality_alone_knows_no_other(store: Store, settings: dict[str, Any]) -> None:
    fit = run(store, encoders={"codes": Spec("bag")}, epochs=1, **settings)
    assert math.isfinite(fit.score)


def test_every_part_of_the_loss_is_reported(store: Store) -> None:
    [epoch] = run(store, "drfuse", unimodal_loss=0.5, alignment=0.1, epochs=1).history
    parts = {name: value for name, value in epoch.items() if name.startswith("loss_")}
    own = {"shared_together", "distinct_apart", "parts_alone", "attention_rank"}
    assert set(parts) == {f"loss_{name}" for name in own | {"task", "unimodal", "alignment"}}
    assert epoch["train_loss"] == pytest.approx(sum(parts.values()), rel=1e-4)
    assert "loss_task" not in run(store, epochs=1).history[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": "ogm"}, "training.balance: Input should be 'none', 'ogm_ge', 'info_reg' or 'gradient_blend'"),
        ({"label_smoothing": 1.0}, "training.label_smoothing: Input should be less than 1"),
        ({"layer_decay": 0.0}, "training.layer_decay: Input should be greater than 0"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    data = {"name": "t", "data": {"folder": "x"}, "model": {"encoders": {"codes": "bag"}}, "training": settings}
    with pytest.raises(UsageError) as raised:
        parse_config(data)
    assert message in str(raised.value)


def test_every_strategy_can_be_searched() -> None:
    fixed = {"epochs", "metric", "deterministic", "batch_order", "compile", "devices"}
    assert set(SEARCHED) == set(TrainingConfig.model_fields) - fixed


# --- gradients by hand ---


def encoders(*gradients: float) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for name, gradient in zip("abc", gradients, strict=False):
        found[name] = nn.Linear(1, 1, bias=False)
        found[name].weight.grad = torch.full((1, 1), gradient)
    return found


def grad(module: nn.Module) -> float:
    assert isinstance(module.weight, Tensor)
    assert module.weight.grad is not None
    return float(module.weight.grad)


def test_ogm_ge_slows_the_modality_that_is_ahead() -> None:
    parts = encoders(1.0, 1.0, 1.0)
    factors = OgmGe(0.5).adjust(parts, {"a": 0.9, "b": 0.45, "c": 0.45})
    assert factors == {"a": pytest.approx(1 - math.tanh(0.5 * 2.0)), "b": 1.0, "c": 1.0}
    assert [grad(parts[name]) for name in "abc"] == [1.0] * 3, "a single number has no spread, and so no noise"


def test_ogm_ge_adds_noise_of_the_gradients_own_spread() -> None:
    torch.manual_seed(0)
    encoder = nn.Linear(100, 100, bias=False)
    before = torch.randn(100, 100) * 3
    before[7] = 0.0
    encoder.weight.grad = before.clone()
    OgmGe(0.5).adjust({"a": encoder}, {})
    noise = encoder.weight.grad - before
    assert float(noise.std()) == pytest.approx(3.0, rel=0.05)
    assert not noise[7].any(), "what a batch does not use stays as it is"


@torch.no_grad()
def test_an_encoder_that_is_ahead_takes_smaller_steps() -> None:
    encoders = {name: nn.Linear(2, 2, bias=False) for name in ("a", "b")}
    model = FusionModel(encoders, EarlyFusion(["a", "b"], 2), 2, 1)
    training = TrainingConfig(balance="ogm_ge", lr=0.01, warmup_steps=0, weight_decay=0.0)
    optimizer = make_optimizer(model, nn.Module(), training, torch.device("cpu"))
    for encoder, slower in zip(encoders.values(), (1.0, 100.0), strict=True):
        encoder.weight.grad = torch.full((2, 2), slower)  # AdamW does not care how large a gradient is
    before = {name: encoder.weight.clone() for name, encoder in encoders.items()}
    warm_up(optimizer, training, 0, 9)
    set_pace(optimizer, {"a": 0.25})
    optimizer.step()
    steps = {name: before[name] - encoder.weight for name, encoder in encoders.items()}
    torch.testing.assert_close(steps["a"], torch.full((2, 2), 0.0025), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(steps["b"], torch.full((2, 2), 0.01), rtol=1e-4, atol=1e-7)
    warm_up(optimizer, training, 1, 9)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}


def test_a_modality_nobody_in_the_batch_has_is_left_alone() -> None:
    for balance in (OgmGe(1.0), InfoReg(1.0)):
        parts = encoders(1.0, 1.0)
        assert balance.adjust(parts, {"a": 0.9}) == {"a": 1.0, "b": 1.0}


def test_info_reg_slows_the_leader_only_while_it_acquires_information() -> None:
    balance = InfoReg(0.5)
    sure = {"a": 0.9, "b": 0.5}
    assert balance.adjust(encoders(2.0, 1.0), sure) == {"a": pytest.approx(1 - 0.5 * 0.4), "b": 1.0}
    balance.end_epoch()
    again = InfoReg(0.5)
    again.restore(balance.state())
    for each in (balance, again):
        each.adjust(encoders(2.01, 1.0), sure)  # the trace grew by 1%
        each.end_epoch()
        assert each.growing == {"a": False, "b": False}
        assert each.adjust(encoders(9.0, 1.0), sure) == {"a": 1.0, "b": 1.0}
        each.end_epoch()
        assert each.growing["a"]
    assert InfoReg(9.0).adjust(encoders(1.0, 1.0), sure)["a"] == pytest.approx(0.1), "at most nine tenths are taken"


def test_gradient_blend_by_hand() -> None:
    blend = GradientBlend(["a", "b"])
    assert blend.weights == {"joint": 1 / 3, "a": 1 / 3, "b": 1 / 3}
    assert blend.due()
    blend.update({"joint": 1.0, "a": 1.0, "b": 1.0}, {"joint": 1.0, "a": 1.0, "b": 1.0})
    assert not blend.due()
    blend.epochs = 3
    assert blend.due()
    # joint gains .2 and overfits .2, a gains .1 and overfits .1, b gets worse
    blend.update({"joint": 0.6, "a": 0.8, "b": 0.5}, {"joint": 0.8, "a": 0.9, "b": 1.2})
    assert blend.weights == pytest.approx({"joint": 5 / 15, "a": 10 / 15, "b": 0.0})


def test_rows_kept_back_are_a_tenth_and_learned_from_never() -> None:
    rows = np.arange(100, 200)
    learned, kept = keep_back(rows, seed=3)
    assert (len(learned), len(kept)) == (90, 10)
    assert sorted([*learned, *kept]) == rows.tolist()
    assert keep_back(rows, seed=4)[1].tolist() != kept.tolist()


@torch.no_grad()
def test_alignment_is_low_where_modalities_of_a_patient_agree() -> None:
    torch.manual_seed(0)
    align = Alignment(["a", "b"], 4)
    align.sharpness.fill_(math.log(10))
    for project in align.projections:
        nn.init.eye_(project.weight)
        nn.init.zeros_(project.bias)
    values, mask = torch.eye(4).unsqueeze(1), torch.ones(4, 1, dtype=torch.bool)
    together = align({"a": Tokens(values, mask), "b": Tokens(values, mask)})
    wanted = math.log(1 + 3 * math.exp(-10.0))  # cosine 1 with its own and 0 with the others, over temperature 0.1
    assert float(together) == pytest.approx(wanted, rel=1e-3)
    assert float(align({"a": Tokens(values, mask), "b": Tokens(values.roll(1, 0), mask)})) > 5
    lonely = mask.clone()
    lonely[1:] = False
    assert float(align({"a": Tokens(values, mask), "b": Tokens(values, lonely)})) == 0.0


# --- weights by hand ---


@torch.no_grad()
def test_averages_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema, swa = WeightAverage("ema", 0.5, 0), WeightAverage("swa", 0.5, 2)
    for epoch, value in enumerate((1.0, 3.0, 8.0), start=1):
        nn.init.constant_(model.weight, value)
        ema.after_step(model.state_dict())
        swa.after_epoch(epoch, model.state_dict())
    # decay 2/11 after one step, 3/12 after two
    assert float(ema.weights["weight"]) == pytest.approx(3 / 12 * (2 / 11 * 1 + 9 / 11 * 3) + 9 / 12 * 8)
    assert float(swa.weights["weight"]) == pytest.approx((3 + 8) / 2)
    with swa.applied(model):
        assert float(model.weight) == pytest.approx(5.5)
    assert float(model.weight) == 8.0


def test_lower_layers_learn_slower() -> None:
    encoder = nn.ModuleDict(
        {
            "embed": nn.Embedding(2, 2),
            "blocks": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]),
            "norm": nn.LayerNorm(2),
        }
    )
    model = FusionModel({"codes": encoder}, EarlyFusion(["codes"], 4), 4, 1)
    scales = {name.removeprefix("encoders.codes."): scale for name, scale in layer_scales(model, 0.5)}
    assert scales["embed.weight"] == 0.125
    assert scales["blocks.0.weight"] == 0.25
    assert scales["blocks.1.bias"] == 0.5
    assert scales["norm.weight"] == 1.0


def test_the_learning_rate_grows_and_falls_to_nothing_with_the_last_step() -> None:
    model = FusionModel({"a": nn.Linear(2, 2)}, EarlyFusion(["a"], 2), 2, 1)
    rates = {}
    for decay in (False, True):
        training = TrainingConfig(lr=1.0, warmup_steps=2, decay=decay)
        optimizer = make_optimizer(model, nn.Module(), training, torch.device("cpu"))
        rates[decay] = []
        for step in range(6):
            warm_up(optimizer, training, step, 6)
            rates[decay].append(optimizer.param_groups[0]["lr"])
    assert rates == {False: [0.5, 1, 1, 1, 1, 1], True: [0.5, 1, 1, 0.75, 0.5, 0.25]}

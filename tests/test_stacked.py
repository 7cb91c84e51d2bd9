"""Runs trained together come to what each comes to alone; what cannot be stacked is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from encoders import ENCODERS
from encoders.stacked import STACKABLE as STACKABLE_ENCODERS
from experiments.config import TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.loop import NotFinite
from experiments.stackable import Member, can_stack, check_stackable
from experiments.stacked import train_stacked
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import FUSIONS, Architecture, Spec, UsageError
from fusion.layers import masked_mean, mean_and_top
from fusion.stacked import STACKABLE as STACKABLE_FUSIONS
from fusion.stacked import StackedDropout, StackedEmbedding, StackedLayerNorm, StackedLinear, stack_layers

PREPROCESS = {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}
TRAINING = TrainingConfig(epochs=4, batch_size=32, warmup_steps=5, patience=50, lr=1e-2, batch_order=3)


@pytest.fixture(scope="module")
def store(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    data = {"folder": small_folder, "preprocess": PREPROCESS}
    runs = tmp_path_factory.mktemp("stacked")
    return open_store(parse_config({"name": "t", "runs": runs, "data": data, "model": {"encoders": {"codes": "bag"}}}))


def architecture(codes: float = 0.1, notes: str = "bag", fusion: str = "early", **params: Any) -> Architecture:
    encoders = {"codes": Spec("bag", {"slots": 2, "dropout": codes}), "notes": Spec(notes, {"dropout": 0.3})}
    return Architecture(encoders, Spec(fusion, params), 8)


def members(fusion: str = "early", notes: str = "bag", **settings: Any) -> list[Member]:
    """Three runs that differ in everything in which they may."""
    return [
        Member(architecture(0.0, notes, fusion), TRAINING.model_copy(update=settings), 1),
        Member(architecture(0.4, notes, fusion), TRAINING.model_copy(update={"lr": 3e-3, "clip": 0.1, **settings}), 2),
        Member(
            architecture(0.2, notes, fusion, dropout=0.5),
            TRAINING.model_copy(update={"weight_decay": 0.3, "warmup_steps": 1, **settings}),
            3,
        ),
    ]


def alone(member: Member, store: Store) -> Fit:
    return train(member.architecture, store, member.training, member.seed, preprocess=PREPROCESS)


def same(first: Fit, second: Fit) -> None:
    """Two fits are one, up to float error; what is the same only by chance of a threshold is not asked for."""
    assert [each["epoch"] for each in first.history] == [each["epoch"] for each in second.history]
    for name in ("train_loss", "score"):
        mine, theirs = ([each[name] for each in fit.history] for fit in (first, second))
        assert mine == pytest.approx(theirs, abs=2e-5), name
    assert first.best_epoch == second.best_epoch
    assert first.parameters == second.parameters
    other = second.model.state_dict()
    for name, each in first.model.state_dict().items():
        torch.testing.assert_close(
            each, other[name], atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


FUSION_NAMES = [name for name, kind in FUSIONS.items() if kind in STACKABLE_FUSIONS]
NOTE_NAMES = [name for name, kind in ENCODERS["notes"].items() if kind in STACKABLE_ENCODERS]


def test_what_can_be_stacked_is_known_by_name() -> None:
    assert set(FUSION_NAMES) == {"early", "late", "sum"}
    assert set(NOTE_NAMES) == {"bag", "tfidf"}


@pytest.mark.parametrize("fusion", FUSION_NAMES)
@pytest.mark.parametrize("notes", NOTE_NAMES)
def test_together_is_each_alone(store: Store, fusion: str, notes: str) -> None:
    runs = members(fusion, notes)
    together = train_stacked(runs, store, preprocess=PREPROCESS)
    for member, found in zip(runs, together, strict=True):
        assert isinstance(found, Fit)
        same(found, alone(member, store))


def test_members_differ_so_that_equality_means_something(store: Store) -> None:
    losses = [fit.history[0]["train_loss"] for fit in train_stacked(members(), store, preprocess=PREPROCESS)]  # type: ignore[union-attr]
    assert len({round(loss, 3) for loss in losses}) == 3


def test_each_has_its_own_patience(store: Store) -> None:
    runs = members(epochs=9, patience=2)
    together = train_stacked(runs, store, preprocess=PREPROCESS)
    lengths = [len(fit.history) for fit in together if isinstance(fit, Fit)]
    assert len(set(lengths)) > 1, "choose seeds whose runs end at different epochs"
    for member, found in zip(runs, together, strict=True):
        assert isinstance(found, Fit)
        same(found, alone(member, store))


def test_one_that_diverges_takes_no_other_along(store: Store) -> None:
    good, _, last = members()
    wild = good._replace(training=good.training.model_copy(update={"lr": 1e30, "clip": 1e30}))
    found = train_stacked([good, wild, last], store, preprocess=PREPROCESS)
    assert isinstance(found[1], NotFinite)
    assert "epoch 1" in str(found[1])
    for member, each in ((good, found[0]), (last, found[2])):
        assert isinstance(each, Fit)
        same(each, alone(member, store))


def test_a_trained_model_keeps_nothing_of_the_others(store: Store) -> None:
    for fit in train_stacked(members(epochs=1), store, preprocess=PREPROCESS):
        assert isinstance(fit, Fit)
        assert all(each.untyped_storage().nbytes() == 4 * each.numel() for each in fit.model.parameters())


def test_batch_order_is_shared_by_seeds_and_changes_the_run(store: Store) -> None:
    member = members()[0]
    first, second = member, member._replace(training=member.training.model_copy(update={"batch_order": 4}))
    assert alone(first, store).history[0]["train_loss"] != alone(second, store).history[0]["train_loss"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"architecture": replace(architecture(), dim=16)}, "differ in dropout, not in architecture"),
        ({"training": TRAINING.model_copy(update={"batch_size": 64})}, "one training.batch_size; got 32 and 64"),
        ({"training": TRAINING.model_copy(update={"batch_order": None})}, "set training.batch_order to a seed"),
        ({"training": TRAINING.model_copy(update={"average": "ema"})}, "must have training.average none; got ema"),
    ],
)
def test_runs_that_differ_too_much_are_refused(change: dict[str, Any], text: str) -> None:
    first = Member(architecture(), TRAINING, 1)
    with pytest.raises(UsageError) as refused:
        check_stackable([first, first._replace(**change)])
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not can_stack([first, first._replace(**change)])


def test_components_without_a_stacked_form_are_refused_with_those_that_have_one() -> None:
    attention = Member(architecture(fusion="cross_attention"), TRAINING, 1)
    with pytest.raises(
        UsageError, match=r"fusion: 'cross_attention' cannot be trained together with others; can: .*sum"
    ):
        check_stackable([attention])
    gru = Member(Architecture({"codes": Spec("gru")}, Spec("early"), 8), TRAINING, 1)
    with pytest.raises(UsageError, match=r"encoders.codes: 'gru' cannot be trained together .* of codes can: bag"):
        check_stackable([gru])
    with pytest.raises(UsageError, match="got no runs"):
        check_stackable([])
    assert not can_stack([Member(architecture(), TRAINING, 1)])  # one alone gains nothing


def test_stacked_layers_are_the_layers() -> None:
    torch.manual_seed(0)
    linear, norm = [nn.Linear(3, 2) for _ in range(2)], [nn.LayerNorm(3) for _ in range(2)]
    tables = [nn.Embedding(5, 3) for _ in range(2)]
    for each in norm:
        nn.init.normal_(each.weight)
    x = torch.randn(2, 4, 6, 3)  # two models, four patients, six tokens
    folded = x.flatten(0, 1)
    for layers, stacked in ((linear, StackedLinear(linear)), (norm, StackedLayerNorm(norm))):
        wanted = torch.cat([layer(rows) for layer, rows in zip(layers, x, strict=True)])
        torch.testing.assert_close(stacked(folded), wanted)
    torch.testing.assert_close(StackedLinear(linear, shared=True)(x[0]), torch.stack([each(x[0]) for each in linear]))
    numbers = torch.tensor([[0, 4], [2, 2]])
    assert torch.equal(StackedEmbedding(tables)(numbers), torch.stack([each(numbers) for each in tables]))


def test_dropout_throws_each_models_own_dice() -> None:
    dice = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    stacked = stack_layers([nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout(1.0)], dice)
    assert isinstance(stacked, StackedDropout)
    found = stacked(torch.ones(12, 5)).unflatten(0, (3, 4))
    torch.manual_seed(1)
    assert torch.equal(found[0], nn.functional.dropout(torch.ones(4, 5), 0.5))
    assert torch.equal(found[1], torch.ones(4, 5))
    assert torch.equal(found[2], torch.zeros(4, 5))
    assert torch.equal(stacked.eval()(torch.ones(12, 5)), torch.ones(12, 5))


def test_mean_and_top_by_hand() -> None:
    values = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]], [[9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    mean, top = mean_and_top(values, mask)
    assert mean.tolist() == [[2.0, -6.0], [0.0, 0.0]]
    assert top.tolist() == [[3.0, -5.0], [0.0, 0.0]]
    assert torch.equal(mean, masked_mean(values, mask))
    none, nothing = mean_and_top(values[:, :0], mask[:, :0])
    assert none.tolist() == nothing.tolist() == np.zeros((2, 2)).tolist()

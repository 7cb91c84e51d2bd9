"""Differentiable search by hand: gradients of architecture parameters, removals, single paths."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusion.autofm import AutoFMSupernet, complete
from search.bilevel import Architect
from search.supernet import best_paths, prune, random_path

LR = 0.1


def toy(order: int, weight: float = 0.5, **settings: Any) -> tuple[Architect[Tensor], nn.Parameter, Tensor]:
    """Training pulls the weight to alpha, development to the batch's number."""
    w, alpha = nn.Parameter(torch.tensor([weight])), torch.tensor([0.2])

    def loss(batch: Tensor) -> Tensor:
        goal = alpha if batch.isnan().any() else batch
        return 0.5 * (w - goal).square().sum()

    return Architect({"gene": alpha}, [w], loss, order=order, **settings), w, alpha  # type: ignore[arg-type]


TRAIN, DEVELOPMENT = torch.tensor([float("nan")]), torch.tensor([0.9])


def test_second_order_knows_how_the_weights_will_answer() -> None:
    architect, w, alpha = toy(order=2)
    architect.step(TRAIN, DEVELOPMENT, lr=LR, weight_decay=0.0)
    # w' = w - lr (w - alpha) = 0.47, and its development loss falls with alpha by (w' - 0.9) lr
    assert alpha.grad is not None
    assert float(alpha.grad) == pytest.approx((0.47 - 0.9) * LR, rel=1e-3)
    assert w.tolist() == [0.5], "the weights are put back exactly"


def test_second_order_counts_weight_decay_and_clipping() -> None:
    architect, w, alpha = toy(order=2, weight=3.2)
    architect.step(TRAIN, DEVELOPMENT, lr=LR, weight_decay=0.5)
    # the gradient 3 is clipped to 1: w' = 3.2 - 0.1 (1 + 0.5 * 3.2) = 2.94; the direction is clipped to 1 as well
    assert alpha.grad is not None
    assert float(alpha.grad) == pytest.approx(LR * (1 / 3) * 1.0, rel=1e-2)
    assert w.tolist() == [pytest.approx(3.2)]


def test_first_order_sees_only_what_the_loss_says_at_the_weights() -> None:
    architect, _, alpha = toy(order=1)
    architect.step(TRAIN, DEVELOPMENT, lr=LR, weight_decay=0.0)
    assert alpha.grad is not None
    assert alpha.grad.tolist() == [0.0]


def test_bonus_is_maximised_and_state_resumes() -> None:
    w, alpha = nn.Parameter(torch.tensor([0.5])), torch.tensor([0.2])
    settings: dict[str, Any] = {"order": 1, "lr": 0.05, "weight_decay": 0.0}
    architect = Architect[Tensor](
        {"gene": alpha}, [w], lambda b: 0 * w.sum() + 0 * b.sum(), bonus=alpha.sum, **settings
    )
    architect.step(DEVELOPMENT, DEVELOPMENT, lr=LR, weight_decay=0.0)
    assert float(alpha.detach()) == pytest.approx(0.25, abs=1e-4)
    other = torch.tensor([0.0])
    again = Architect[Tensor]({"gene": other}, [w], lambda b: 0 * w.sum() + 0 * b.sum(), bonus=other.sum, **settings)
    again.restore(json.loads(json.dumps(architect.state())))
    for each in (architect, again):
        each.step(DEVELOPMENT, DEVELOPMENT, lr=LR, weight_decay=0.0)
    assert float(alpha.detach()) == float(other.detach())


def test_both_sides_of_the_difference_see_the_same_dropout() -> None:
    torch.manual_seed(0)
    w, alpha = nn.Parameter(torch.ones(50)), torch.zeros(50)
    drop = nn.Dropout(0.5)
    architect = Architect[Tensor](
        {"gene": alpha}, [w], lambda b: (drop(w - alpha) * b).square().sum() / 50, order=2, weight_decay=0.0
    )
    architect.step(torch.ones(50), torch.ones(50), lr=LR, weight_decay=0.0)
    assert alpha.grad is not None
    assert float(alpha.grad.abs().max()) < 10, "noise over twice a small radius would be in the hundreds"


# --- from all architectures to one ---

TWO = ("codes", "notes")


def planted(supernet: AutoFMSupernet, wanted: dict[str, Any]) -> float:
    """A score that falls for every wanted choice that is gone."""
    return -float(sum(choice not in supernet.left[gene] for gene, choice in wanted.items()))


def test_pruning_finds_what_the_score_asks_for_and_tunes_at_the_end() -> None:
    supernet = AutoFMSupernet(TWO, 8)
    wanted = complete(random_path(supernet, random.Random(5)), TWO, supernet.vectors)
    tuned: list[int] = []
    removals = prune(supernet, lambda: planted(supernet, wanted), lambda: tuned.append(len(supernet.undecided())), 3)
    assert supernet.genes() == wanted
    choices = sum(len(names) - 1 for names in supernet.options.values())
    assert len(removals) == choices
    assert len(tuned) == -(-choices // 8)
    assert tuned[-1] == 0, "what comes out has been tuned as it is"


def test_each_candidate_is_tried_with_all_others_in_place() -> None:
    supernet = AutoFMSupernet(TWO, 8)
    sizes = []

    def score() -> float:
        sizes.append(sum(map(len, supernet.left.values())))
        return 0.0

    prune(supernet, score, lambda: None, 0, tune_every=100)
    whole = sum(map(len, supernet.options.values()))
    assert sizes[0] == sizes[1] == whole - 1
    assert sizes == sorted(sizes, reverse=True)


def test_pruning_never_empties_a_node() -> None:
    supernet = AutoFMSupernet(TWO, 8)
    score = {True: 1.0, False: 0.0}

    def few() -> float:  # the fewer inputs, the better
        edges = [names for gene, names in supernet.left.items() if gene.startswith("node") and "_" in gene]
        return -sum(score[True] for names in edges if True in names)

    prune(supernet, few, lambda: None, 1)
    genes = supernet.genes()
    for node in ("node1", "node2", "node3"):
        assert sum(value for gene, value in genes.items() if gene.startswith(f"{node}_")) == 1


def test_best_paths_are_different_and_best_first() -> None:
    supernet = AutoFMSupernet(TWO, 8)

    def score() -> float:
        assert supernet.path is not None
        return float(supernet.path["codes_1"] == "ffn") + float(supernet.path["node1"] == "mlp") / 2

    found = best_paths(supernet, score, 0, paths=60, top=3)
    assert [value for value, _ in found] == [1.5] * 3
    assert len({repr(path) for _, path in found}) == 3
    assert supernet.path is None

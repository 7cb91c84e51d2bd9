"""Tasks: losses, also focal and smoothed ones, and activations by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fusion import Criterion, Task, activate
from fusion.component import UsageError

BINARY, CLASSES = Task("binary"), Task("multiclass", ("x", "y", "z"))
LABELS, NUMBER = Task("multilabel", ("x", "y")), Task("regression", center=10.0, scale=4.0)


def test_outputs_by_kind() -> None:
    assert [task.outputs for task in (BINARY, CLASSES, LABELS, NUMBER)] == [1, 3, 2, 1]


@pytest.mark.parametrize("task", [BINARY, CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_task_survives_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


LOG3 = math.log(3.0)  # the logit of 3/4


def test_binary_by_hand() -> None:
    logits, target = torch.tensor([[LOG3], [LOG3]]), torch.tensor([1.0, 0.0])
    assert activate(BINARY, logits).flatten().tolist() == pytest.approx([0.75, 0.75])
    assert float(Criterion(BINARY)(logits, target)) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    weighed = Criterion(BINARY, torch.tensor([3.0]))(logits, target)
    assert float(weighed) == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 2)


def test_multiclass_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))
    target = torch.tensor([2, 1])
    torch.testing.assert_close(activate(CLASSES, logits), torch.tensor([[0.125, 0.25, 0.625], [0.75, 0.125, 0.125]]))
    assert float(Criterion(CLASSES)(logits, target)) == pytest.approx(-(math.log(0.625) + math.log(0.125)) / 2)
    # weights of the true classes: 1 for z and 3 for y
    weighed = Criterion(CLASSES, torch.tensor([9.0, 3.0, 1.0]))(logits, target)
    assert float(weighed) == pytest.approx(-(math.log(0.625) + 3 * math.log(0.125)) / 2)


def test_multilabel_by_hand() -> None:
    logits, target = torch.tensor([[LOG3, 0.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(activate(LABELS, logits), torch.tensor([[0.75, 0.5]]))
    assert float(Criterion(LABELS)(logits, target)) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    weighed = Criterion(LABELS, torch.tensor([2.0, 7.0]))(logits, target)  # weighs positives of each label
    assert float(weighed) == pytest.approx(-(2 * math.log(0.75) + math.log(0.5)) / 2)


def test_regression_by_hand() -> None:
    logits, target = torch.tensor([[0.5], [-1.0]]), torch.tensor([14.0, 10.0])
    assert activate(NUMBER, logits).flatten().tolist() == [12.0, 6.0]
    # standardised targets are 1 and 0
    assert float(Criterion(NUMBER)(logits, target)) == pytest.approx((0.25 + 1.0) / 2)


@pytest.mark.parametrize("task", [BINARY, CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_loss_of_half_precision_logits_is_full_precision(task: Task) -> None:
    logits = torch.zeros(2, task.outputs, dtype=torch.bfloat16, requires_grad=True)
    target = torch.zeros(2, 2) if task.kind == "multilabel" else torch.zeros(2)
    found = Criterion(task)(logits, target)
    assert found.dtype == activate(task, logits).dtype == torch.float32
    found.backward()
    assert logits.grad is not None


def test_loss_is_least_at_the_truth() -> None:
    wide = torch.tensor([[9.0], [-9.0]])
    assert Criterion(BINARY)(wide, torch.tensor([1.0, 0.0])) < 1e-3 < Criterion(BINARY)(-wide, torch.tensor([1.0, 0.0]))
    exact = torch.tensor([[1.0]])
    assert Criterion(NUMBER)(exact, torch.tensor([14.0])) == 0


# --- focal loss and label smoothing by hand ---


def test_focal_loss_by_hand() -> None:
    logits, target = torch.tensor([[math.log(3.0)], [math.log(3.0)]]), torch.tensor([1.0, 0.0])  # P = 3/4
    found = Criterion(BINARY, focal_gamma=2.0).rows(logits, target)
    torch.testing.assert_close(found, torch.tensor([-(0.25**2) * math.log(0.75), -(0.75**2) * math.log(0.25)]))
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0]]))
    [one] = Criterion(CLASSES, focal_gamma=1.0).rows(logits, torch.tensor([2]))
    assert float(one) == pytest.approx(-(1 - 0.625) * math.log(0.625))


def test_label_smoothing_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0)]])
    [one] = Criterion(BINARY, label_smoothing=0.2).rows(logits, torch.tensor([1.0]))
    assert float(one) == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
    best = torch.tensor([[math.log(9.0)]], requires_grad=True)  # P = 0.9, what the smoothed target asks for
    Criterion(BINARY, label_smoothing=0.2).rows(best, torch.tensor([1.0])).sum().backward()
    assert best.grad is not None
    assert abs(float(best.grad)) < 1e-6


def test_confidence_is_the_probability_of_the_truth() -> None:
    logits = torch.tensor([[math.log(3.0)], [math.log(3.0)]])
    weighed = Criterion(BINARY, torch.tensor([5.0]), label_smoothing=0.3, focal_gamma=2.0)
    torch.testing.assert_close(weighed.confidence(logits, torch.tensor([1.0, 0.0])), torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"kind": "binry"}, "unknown kind of task 'binry'; did you mean 'binary'?"),
        ({"kind": None}, "unknown kind of task 'None'; known: binary, multiclass, multilabel, regression"),
        ({"names": []}, "a task needs the names of its outputs; got []"),
        ({"names": [1]}, "a task needs the names of its outputs; got [1]"),
    ],
)
def test_a_task_that_is_written_wrongly(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Task.from_dict(BINARY.to_dict() | wrong)
    assert str(raised.value) == text

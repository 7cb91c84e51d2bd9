"""What a search shows while it runs: a line for each new best where nobody watches, a view where somebody does."""

from __future__ import annotations

import io
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from experiments import live
from experiments.live import LiveView, best_trial, describe

BAGS = {"encoders": {"codes": {"name": "bag"}, "notes": {"name": "bag"}}, "fusion": {"name": "late"}, "dim": 16}
GRU = {"encoders": {"codes": {"name": "gru", "layers": 2}}, "fusion": {"name": "early"}, "dim": 32}
WIDE = Console(width=120, file=io.StringIO(), color_system=None)


def trial(number: int, state: TrialState, value: float | None = None, **attributes: Any) -> FrozenTrial:
    made = create_trial(state=state, value=value, user_attrs=attributes)
    made.number = number
    return made


def done(number: int, value: float, **attributes: Any) -> FrozenTrial:
    return trial(number, TrialState.COMPLETE, value, **{"architecture": BAGS, **attributes})


class Clock:
    """Stands for the clock of the view."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(live, "time", found)
    return found


def view(trials: int | None = 10, seconds: float | None = None, **options: Any) -> LiveView:
    return LiveView("demo", "auroc", options.pop("maximise", True), trials, seconds, **options)


def shown(live_view: LiveView, trials: list[FrozenTrial]) -> list[str]:
    """Return the lines of the view as a terminal 120 wide would show them."""

    class Keeps:
        content: Any = None

        def update(self, content: Any) -> None:
            self.content = content

    live_view._live = keeps = Keeps()
    live_view.update(trials)
    with WIDE.capture() as capture:
        WIDE.print(keeps.content)
    return [line.rstrip() for line in capture.get().splitlines()]


# where nobody watches


def test_one_line_for_each_new_best(capsys: pytest.CaptureFixture[str]) -> None:
    with view() as found:
        trials = [done(0, 0.61234)]
        found.update(trials)
        found.update(trials)
        trials.append(done(1, 0.55))
        found.update(trials)
        trials.append(done(2, 0.7, architecture=GRU))
        found.update(trials)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "demo: trial 1/10, best auroc 0.6123 (late of codes bag + notes bag, width 16)",
        "demo: trial 3/10, best auroc 0.7000 (early of codes gru, width 32)",
    ]
    assert printed.out == ""  # what a command answers is not mixed with how it goes


def test_no_line_before_the_first_score(capsys: pytest.CaptureFixture[str]) -> None:
    view().update([trial(0, TrialState.RUNNING), trial(1, TrialState.FAIL), trial(2, TrialState.PRUNED)])
    assert capsys.readouterr().err == ""


def test_lower_is_better_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = LiveView("stay", "mae", False, None, 60.0)
    found.update([done(0, 3.0)])
    found.update([done(0, 3.0), done(1, 4.0)])
    found.update([done(0, 3.0), done(1, 4.0), done(2, -1.5)])
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "stay: trial 1, best mae 3.0000",
        "stay: trial 3, best mae -1.5000",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with view(enabled=False) as found:
        found.update([done(0, 0.6)])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_attempts_of_one_root_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    view().update([trial(0, TrialState.FAIL), done(1, 0.6), done(2, 0.65, root=0)])
    assert capsys.readouterr().err.startswith("demo: trial 2/10, best auroc 0.6500")


# where somebody watches


def test_the_view_shows_progress_the_best_and_how_trials_stand(clock: Clock) -> None:
    history = [{"epoch": 1}, {"epoch": 2}]
    trials = [
        done(0, 0.61),
        done(1, 0.75, architecture=GRU),
        trial(2, TrialState.PRUNED),
        trial(3, TrialState.FAIL),
        trial(4, TrialState.RUNNING, architecture=BAGS, history=history),
        trial(5, TrialState.RUNNING),
        trial(6, TrialState.WAITING),
    ]
    lines = shown(view(), trials)
    assert lines[0].startswith("demo ")
    assert lines[0].endswith(" 4/10 trials")
    rows = [" ".join(line.split()) for line in lines[1:]]
    assert rows[1:] == [
        "best auroc 0.7500 early of codes gru, width 32",
        "trials 2 complete, 1 pruned, 1 failed, 2 running, 1 waiting",
        "running #4 epoch 2 late of codes bag + notes bag, width 16",
        "running #5 epoch 0 not yet chosen",
    ]


def test_the_view_before_anything_happened(clock: Clock) -> None:
    rows = [" ".join(line.split()) for line in shown(view(None, 600.0), [])]
    assert rows[0].endswith(" 0 trials")
    assert "about 10 min left" in rows[1]
    assert not any(row.startswith("best") for row in rows)


def test_the_view_is_text_to_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with view() as found:
        assert found.watched
        found.update([done(0, 0.6)])
        found._live.refresh()
    assert "demo: trial" not in capsys.readouterr().err  # the view, not lines


# time left


def test_time_left_is_judged_by_the_trials_of_this_session(clock: Clock) -> None:
    found = view(trials=10, enabled=False)
    found.update([done(0, 0.1), done(1, 0.2)])  # of an earlier session
    clock.now += 30
    assert found.time_left(2) is None  # nothing to judge by
    assert found.time_left(5) == 30 / 3 * 5
    assert found.time_left(10) == 0


def test_time_left_of_a_budget_in_seconds(clock: Clock) -> None:
    found = view(None, 60.0, enabled=False)
    clock.now += 45
    assert found.time_left(7) == 15
    clock.now += 45
    assert found.time_left(7) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (150.1, "3 min"), (7200, "120 min")]
)
def test_time_left_is_said_in_seconds_and_then_minutes(clock: Clock, seconds: float, text: str) -> None:
    assert any(line.endswith(f"about {text} left") for line in shown(view(None, seconds), []))


# the best


def test_the_best_trial_in_both_directions() -> None:
    trials = [
        done(0, 0.2),
        done(1, -0.9),
        done(2, 0.7),
        trial(3, TrialState.PRUNED, 0.9),  # a pruned trial has a last score and is not in the ranking
        trial(4, TrialState.RUNNING),
    ]
    assert best_trial(trials, True) is trials[2]
    assert best_trial(trials, False) is trials[1]
    assert best_trial(trials[3:], True) is None
    assert best_trial([], False) is None
    assert best_trial([done(0, 0.0), done(1, -0.1)], True) is not None


def test_a_trial_in_a_few_words() -> None:
    assert describe(done(0, 0.5)) == "late of codes bag + notes bag, width 16"
    assert describe(trial(0, TrialState.RUNNING)) == "not yet chosen"

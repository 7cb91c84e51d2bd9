"""The live view of a search in the terminal; a line for each new best where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from search.objectives import is_candidate, score_of
from search.spending import trained_epochs, trained_flops
from search.study import finished, summary


class LiveView:
    """Shows progress, the best so far, how trials stand and the time left. Use as a context manager."""

    def __init__(
        self,
        title: str,
        metric: str,
        maximise: bool,
        trials: int | None,
        seconds: float | None,
        epochs: int | None = None,
        flops: float | None = None,
        *,
        enabled: bool = True,
    ) -> None:
        self.title, self.metric, self.maximise = title, metric, maximise
        self.trials, self.seconds, self.epochs, self.flops = trials, seconds, epochs, flops
        self.enabled = enabled
        self.watched = enabled and sys.stderr.isatty()
        self.started, self.reached_before = time.monotonic(), -1.0
        self.best: float | None = None
        self.note = ""
        self._live: Any = None

    def __enter__(self) -> Self:
        if self.watched:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, trials: Sequence[FrozenTrial], note: str = "") -> None:
        """Show how the trials stand now, and what hinders their workers."""
        if note and note != self.note and self.enabled and self._live is None:
            print(f"{self.title}: {note}", file=sys.stderr, flush=True)  # noqa: T201
        self.note = note
        counts = summary(trials)
        done = finished(trials)
        if self.reached_before < 0:
            self.reached_before = self.reached(trials)
        best = best_trial(trials, self.maximise)
        if self._live is not None:
            self._live.update(self._render(trials, counts, done, best))
        elif self.enabled and best is not None and score_of(best) != self.best:
            total = f"/{self.trials}" if self.trials else ""
            line = f"{self.title}: trial {done}{total}, best {self.metric} {best.values[0]:.4f} ({describe(best)})"
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - the quiet form of the live view
        self.best = score_of(best) if best is not None else None

    @property
    def total(self) -> float:
        """How much of the budget there is, in trials, epochs, floating-point operations or seconds."""
        return float(self.trials or self.epochs or self.flops or max(1.0, self.seconds or 1.0))

    def reached(self, trials: Sequence[FrozenTrial]) -> float:
        """Return how much of the budget is spent, in the same unit."""
        if self.trials:
            return finished(trials)
        if self.flops:
            return trained_flops(trials)
        return trained_epochs(trials) if self.epochs else time.monotonic() - self.started

    def time_left(self, reached: float) -> float | None:
        """Return seconds to go, judged by how fast this session went."""
        passed = time.monotonic() - self.started
        if self.seconds is not None:
            return max(0.0, self.seconds - passed)
        here = reached - self.reached_before
        return passed / here * max(0.0, self.total - reached) if here > 0 else None

    def _render(
        self, trials: Sequence[FrozenTrial], counts: dict[str, int], done: int, best: FrozenTrial | None
    ) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        reached = self.reached(trials)
        left = self.time_left(reached)
        head = Table.grid(padding=(0, 1))
        amount = f"{done}/{self.trials} trials" if self.trials else f"{done} trials"
        amount += f", {reached:.0f}/{self.epochs} epochs" if self.epochs else ""
        amount += f", {reached:.2e}/{self.flops:.2e} FLOPs" if self.flops else ""
        head.add_row(f"[bold]{self.title}[/bold]", ProgressBar(total=self.total, completed=reached, width=40), amount)
        head.add_row("", "", f"about {_minutes(left)} left" if left is not None else "")
        body = Table.grid(padding=(0, 2))
        if best is not None:
            body.add_row("best", f"{self.metric} {best.values[0]:.4f}", describe(best))
        body.add_row("trials", ", ".join(f"{count} {name}" for name, count in counts.items() if count))
        if self.note:
            body.add_row("waiting", self.note)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                epoch = len(trial.user_attrs.get("history", ()))
                body.add_row("running", f"#{trial.number} epoch {epoch}", describe(trial))
        return Group(head, body)


def best_trial(trials: Sequence[FrozenTrial], maximise: bool) -> FrozenTrial | None:
    """Return the trial with the best score of those that may be taken."""
    return max(filter(is_candidate, trials), key=lambda trial: trial.values[0] * (1 if maximise else -1), default=None)


def describe(trial: FrozenTrial) -> str:
    """Say in a few words what a trial tries."""
    architecture = trial.user_attrs.get("architecture")
    if not architecture:
        return "not yet chosen"
    encoders = " + ".join(f"{modality} {spec['name']}" for modality, spec in architecture["encoders"].items())
    return f"{architecture['fusion']['name']} of {encoders}, width {architecture['dim']}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

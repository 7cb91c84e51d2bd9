"""A study's tracker that may not be there yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.tracking.attempts import Trial
from experiments.tracking.project import StudyTracker
from fusion.component import UsageError

_PAUSE_SECONDS = 30.0  # between two tries to reach it


class LateTracker:
    """Hands trials to a tracker once it answers, and says at the end what to do if it never did.

    Nothing need be kept meanwhile: the study's storage has everything, and the tracker is written from it.
    """

    def __init__(self, find: Callable[[], StudyTracker], name: str) -> None:
        self.problem: str | None = None
        self._find, self._name = find, name
        self._found: StudyTracker | None = None
        self._not_before = 0.0

    def sync(self, trials: Sequence[Trial]) -> bool:
        """Write what is new; False where the tracker is away or is being left alone for a while."""
        if time.monotonic() < self._not_before:
            return False
        return self._try(lambda tracker: tracker.sync(trials))

    def finish(self, trials: Sequence[Trial], *, status: str, files: Sequence[Path]) -> bool:
        """Write what is left and close the study's run; where this is False, `problem` says in a line what to do."""
        return self._try(lambda tracker: tracker.finish(trials, status=status, files=files))

    def _try(self, write: Callable[[StudyTracker], bool]) -> bool:
        try:
            self._found = self._found or self._find()
        except UsageError as error:
            self._not_before = time.monotonic() + _PAUSE_SECONDS
            advice = f"training is not affected, and `ehrfusion track sync {self._name}` writes everything later"
            self.problem = f"{str(error).partition(';')[0]}; {advice}"
            return False
        taken, self._not_before = write(self._found), 0.0
        self.problem = self._found.problem
        return taken

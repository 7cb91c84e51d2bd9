"""A study whose workers take waiting trials in one step, however many of them ask at once."""

from __future__ import annotations

import optuna

from search.storage import storage_of


class TicketStudy(optuna.Study):
    """Optuna's study, except that the database picks the waiting trial that `ask` starts.

    Optuna reads all waiting trials and tries to start one after the other: of workers that ask at once, each waits for
    the locks of all before it, which grows with their square.
    """

    def _pop_waiting_trial_id(self) -> int | None:
        """Start a waiting trial and return its id; `ask` calls this, a test guards that."""
        storage = storage_of(self)
        if storage is None:
            return super()._pop_waiting_trial_id()
        found = storage.start_waiting(self._study_id)
        if found is not None:  # Optuna's cache refuses settings of a trial that it has not read
            self._get_trials(deepcopy=False, use_cache=True)
        return found

"""The first trials of a study: known choices that are tried before the sampler's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from search.settings import NONE
from search.space import Space

ORIGIN = "origin"
"""The attribute of a trial that says who proposed it; the sampler where it is missing."""


def baselines(space: Space) -> list[dict[str, Any]]:
    """Return, for every fusion, the choice of it over the first encoder of every modality; ranges stay open.

    A search that begins with them cannot end below the plain models whom everybody would have tried by hand.
    """
    plain = {
        f"encoders.{modality}": next(name for name in options if name != NONE)
        for modality, options in space.encoders.items()
    }
    return [{**plain, "fusion": name} for name in space.fusion]


def add_first(study: optuna.Study, choices: Iterable[Mapping[str, Any]], origin: str) -> None:
    """Let trials wait in a study that begin with these choices, by the names of the space; the rest is sampled."""
    for fixed in choices:
        # what `enqueue_trial` does, but with an attribute; each counts as one of the budget
        study.add_trial(
            create_trial(
                state=TrialState.WAITING, system_attrs={"fixed_params": dict(fixed)}, user_attrs={ORIGIN: origin}
            )
        )


def add_baselines(study: optuna.Study, space: Space, trials: int | None) -> None:
    """Let the baselines of a space wait in a study, once, and no more of them than its budget of trials has left."""
    if "baselines" in study.user_attrs:
        return
    left = None if trials is None else max(0, trials - len(study.get_trials(deepcopy=False)))
    chosen = baselines(space)[:left]
    study.set_user_attr("baselines", len(chosen))
    add_first(study, chosen, "baseline")

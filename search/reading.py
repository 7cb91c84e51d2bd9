"""Trials read from the database as rows: Optuna makes an object of each, and of each of their attributes, first."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import ColumnElement, Connection, select

_PARAMS, _SCORES, _REPORTS = models.TrialParamModel, models.TrialValueModel, models.TrialIntermediateValueModel
_NOTES: dict[str, Any] = {
    "user_attrs": models.TrialUserAttributeModel,
    "system_attrs": models.TrialSystemAttributeModel,
}


def read_trials(connection: Connection, which: ColumnElement[bool]) -> list[FrozenTrial]:
    """Return the trials of a condition on them, in the order in which they were added.

    What a trial has is read after the trial: of one that is read as finished, nothing can be missing.
    """
    trial = models.TrialModel
    about = (trial.trial_id, trial.number, trial.state, trial._datetime_start_utc, trial._datetime_complete_utc)
    rows = connection.execute(select(*about).where(which).order_by(trial.trial_id)).all()
    if not rows:
        return []

    def parts(model: Any, *columns: Any) -> dict[int, list[Sequence[Any]]]:
        asked = select(model.trial_id, *columns).join(trial, trial.trial_id == model.trial_id).where(which)
        found: dict[int, list[Sequence[Any]]] = defaultdict(list)
        for row in connection.execute(asked):
            found[row[0]].append(row[1:])
        return found

    params = parts(_PARAMS, _PARAMS.param_id, _PARAMS.param_name, _PARAMS.param_value, _PARAMS.distribution_json)
    scores = parts(_SCORES, _SCORES.objective, _SCORES.value, _SCORES.value_type)
    reports = parts(_REPORTS, _REPORTS.step, _REPORTS.intermediate_value, _REPORTS.intermediate_value_type)
    notes = {name: parts(model, model.key, model.value_json) for name, model in _NOTES.items()}
    return [
        FrozenTrial(
            trial_id=place,
            number=number,
            state=state,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            value=None,
            values=_values(scores[place]),
            intermediate_values=_by_key(reports[place], _REPORTS.stored_repr_to_intermediate_value),
            **_settings(params[place]),
            **{name: _by_key(each[place], json.loads) for name, each in notes.items()},
        )
        for place, number, state, start, complete in rows
    ]


def _local(moment: datetime | None) -> datetime | None:
    """Return a time that is stored in UTC as Optuna shows it: local, and without its zone."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _settings(rows: Iterable[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    settings: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for _, name, value, kind in sorted(rows, key=lambda row: int(row[0])):
        kinds[name] = _distribution(kind)
        settings[name] = kinds[name].to_external_repr(value)
    return {"params": settings, "distributions": kinds}


def _values(rows: list[Sequence[Any]]) -> list[float] | None:
    ordered = sorted(rows, key=lambda row: int(row[0]))
    return [_SCORES.stored_repr_to_value(value, kind) for _, value, kind in ordered] or None


def _by_key(rows: Iterable[Sequence[Any]], read: Callable[..., Any]) -> dict[Any, Any]:
    return {key: read(*stored) for key, *stored in rows}


@lru_cache(maxsize=4096)  # a study has few, and trials share them
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)

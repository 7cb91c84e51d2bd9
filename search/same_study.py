"""What makes two studies of one name the same: space, settings, data, splits, metric, objectives; when one may go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import TrialState

from fusion.component import UsageError
from search.identity import lives
from search.storage import storage_of


def check_same(study: optuna.Study, attributes: Mapping[str, Any]) -> None:
    """Refuse to go on with a study that was begun with something else.

    Raises:
        UsageError: with the first thing that differs.
    """
    words = {
        "space_fingerprint": "another space",
        "data_fingerprint": "other data",
        "split_fingerprint": "other splits",
        "metric": "another metric",
        "objectives": "other objectives",
        "settings": "other settings",
    }
    for name, what in words.items():
        old, new = study.user_attrs.get(name), attributes.get(name)
        if old is not None and new is not None and old != new:
            written = {"space_fingerprint": "space", "settings": "settings"}.get(name)
            detail = f" ({_difference(study.user_attrs, attributes, written)})" if written else ""
            raise UsageError(
                f"study '{study.study_name}' exists with {what}{detail}; choose another name or say --fresh"
            )


def forget(study: optuna.Study) -> None:
    """Delete a study, unless it is being worked on: its workers would meet another one in its place.

    Raises:
        UsageError: a trial runs whose worker lives, or may live on another host.
    """
    storage = storage_of(study)
    silent = set() if storage is None else set(storage._get_stale_trial_ids(study._study_id))
    running = [each for each in study.get_trials(states=(TrialState.RUNNING,)) if each._trial_id not in silent]
    workers = [each.user_attrs.get("worker", "") for each in running]
    count = sum(each.count(":") >= 3 and lives(each) for each in workers)
    if count:
        run = "trial runs" if count == 1 else "trials run"
        raise UsageError(
            f"study '{study.study_name}' is at work: {count} {run} now; end its "
            "workers before --fresh (those of a host that died are known to be dead 4 minutes later)"
        )
    optuna.delete_study(study_name=study.study_name, storage=study._storage)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], written: str) -> str:
    """Name the first place where two spaces or settings differ."""
    before, after = _flat(json.loads(old.get(written, "{}"))), _flat(json.loads(new.get(written, "{}")))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"first difference: {changed[0]}" if changed else "it differs"


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict) or not data:
        return {prefix: data}
    return {
        key: value for name, each in data.items() for key, value in _flat(each, f"{prefix}.{name}".strip(".")).items()
    }

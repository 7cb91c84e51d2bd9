"""What makes two studies of one name the same: space, settings, data, splits, metric, objectives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna

from fusion.component import UsageError


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

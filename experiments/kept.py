"""Where the result of a run outside any study is kept: its name says all that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.data.store import Store
from experiments.pretraining.use import contents
from experiments.tasks.interactions import interactions_fingerprint
from experiments.workspace import code_fingerprint
from fusion import Spec


def result_path(
    folder: Path, contender: Mapping[str, Any], seed: int, config: Config, store: Store, external: Store | None = None
) -> Path:
    """Return the file, without an ending, of a contender trained with a seed on the patients of a store.

    Args:
        external: other patients whom the trained model predicts too.
    """
    key = json.dumps([contender, seed, config.data.preprocess], sort_keys=True)
    parts = [code_fingerprint(), key, store.data_fingerprint, store.cohort.fingerprint, store.cohort.split_fingerprint]
    encoders = (contender.get("architecture") or {}).get("encoders", {})
    if artefacts := contents(map(Spec.parse, encoders.values())):
        parts.append(json.dumps(artefacts))
    if (contender.get("training") or {}).get("interaction_target") is not None:
        parts.append(interactions_fingerprint(store.dataset, store.config.labels))
    if external is not None:
        parts += [external.data_fingerprint, external.cohort.fingerprint]
    return folder / hashlib.sha256("|".join(parts).encode()).hexdigest()[:20]

"""What stands before compare and register: an audit that passed for the same data, code and prepared tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.audit.finding import Audit
from experiments.audit.pretraining import pretraining_file
from experiments.audit.run import audit_config, audit_store, used
from experiments.config import Config
from experiments.data.store import Store
from experiments.whole import whole_file
from experiments.workspace import code_fingerprint, open_store
from fusion import UsageError

NOT_RUN = "not run (--no-audit)"
"""What a report and a model card say where somebody went on without an audit."""


def audit_path(config: Config, fold: int | None = None) -> Path:
    """Return where the audit of a configuration lies, beside its study; each fold of a comparison has its own."""
    return config.runs / config.name / ("audit.json" if fold is None else f"audit-fold-{fold + 1}.json")


def written_audit(config: Config, *, progress: bool = True) -> tuple[Audit, Path]:
    """Audit a study or an experiment and write the result down."""
    found = audit_config(config, progress=progress)
    if found.ok:  # then there is a cohort, and compare and register need not look again
        found = _keyed(found, config, open_store(config))
    return found, _write(config, found)


def gate_folds(config: Config, stores: Sequence[Store], *, progress: bool = False) -> str:
    """Let through what passes the audit in every fold, where other patients are held out each time.

    Raises:
        UsageError: the audit of a fold fails.
    """
    if len(stores) == 1:
        return gate(config, stores[0], progress=progress)
    said = [gate(config, store, fold=fold, progress=progress) for fold, store in enumerate(stores)]
    return said[0] if len(set(said)) == 1 else "; ".join(f"fold {i + 1} {each}" for i, each in enumerate(said))


def gate(config: Config, store: Store, *, fold: int | None = None, progress: bool = False) -> str:
    """Let through what passes the audit, and return a line that says so, for reports and cards.

    An audit that passed before counts as long as data, labels, splits, code, prepared tensors and lists of pre-training
    patients are the same.

    Raises:
        UsageError: the audit fails; the message has the first error.
    """
    plans, encoders = used(config)
    store.prepare(plans, progress)
    found = _remembered(config, store, fold)
    if found is None:
        found = _keyed(audit_store(config, store, plans, encoders, progress=progress), config, store)
        _write(config, found, fold)
    if not found.ok:
        check, first = found.of("error")[0]
        more_errors = f", and {len(found.of('error')) - 1} more" if len(found.of("error")) > 1 else ""
        raise UsageError(
            f"the leakage audit failed: {check}: {first.where}: {first.what}{more_errors}; see "
            f"{audit_path(config, fold)}, or go on with --no-audit, which is then written down"
        )
    return found.summary()


def _keyed(found: Audit, config: Config, store: Store) -> Audit:
    return replace(found, about={**found.about, "key": _key(config, store)})


def _remembered(config: Config, store: Store, fold: int | None) -> Audit | None:
    try:
        found = Audit.from_dict(json.loads(audit_path(config, fold).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.ok and found.about.get("key") == _key(config, store) else None


def _key(config: Config, store: Store) -> str:
    """Hash what an audit looks at; prepared tensors count by size and time of their files, as they are large."""
    plans, encoders = used(config)
    parts: list[Any] = [code_fingerprint(), config.seed, store.data_fingerprint, store.cohort.fingerprint]
    parts += [store.cohort.split_fingerprint, store.config.model_dump_json()]
    for plan in sorted(plans, key=lambda each: each.key):
        for path in sorted(store.folder(plan).iterdir()):
            status = path.stat()
            parts.append([plan.key, path.name, status.st_size, status.st_mtime_ns])
    for modality, spec in encoders:
        lists = [pretraining_file(Path(each)) for each in spec.params.values() if isinstance(each, str)]
        texts = [path.read_text(encoding="utf-8") for path in lists if path.is_file()]
        parts.append([modality, spec.name, texts])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write(config: Config, found: Audit, fold: int | None = None) -> Path:
    path = audit_path(config, fold)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
    return path

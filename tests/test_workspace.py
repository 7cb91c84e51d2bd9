"""Where code came from: what changes results changes their names, what only tells of them does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import workspace


def test_a_changed_report_trains_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(workspace.__file__).parent
    for each in workspace._TELLING:
        assert (here / each).is_dir()
    files = {
        name: tmp_path / name for name in ("experiments/loop.py", "fusion/late.py", "experiments/reporting/page.py")
    }
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr(workspace, "__file__", str(tmp_path / "experiments" / "workspace.py"))
    fingerprint = workspace.code_fingerprint.__wrapped__
    before = fingerprint()
    files["experiments/reporting/page.py"].write_text("2")
    assert fingerprint() == before
    files["fusion/late.py"].write_text("2")
    changed = fingerprint()
    assert changed != before
    files["experiments/loop.py"].write_text("2")
    assert fingerprint() not in (before, changed)

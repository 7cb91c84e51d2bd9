"""`--status` tells the truth: what runs, what only seems to, what waits, and how much of the budget is spent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from toy_search import study
from toy_trials import take

from experiments.cli import main
from experiments.status import study_status
from experiments.studies import save_config, study_spec
from search.identity import boot_id, worker_id
from search.study import create_or_resume, issue_tickets

DEAD = f"{os.uname().nodename}:{boot_id()}:99999999-1:x"


def test_what_runs_what_is_lost_and_what_waits(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = study(small_folder, tmp_path, "halfway", search={"trials": 6})
    created = create_or_resume(study_spec(config), {"metric": "auroc"})
    issue_tickets(created, 6)
    save_config(config)
    done = take(created, worker=DEAD, root=0)
    created._storage.set_trial_state_values(done._trial_id, TrialState.COMPLETE, [0.75])
    mine = take(created, worker=worker_id(os.getpid(), "x"), root=1)
    take(created, worker=DEAD, root=2)
    take(created, worker="another-host:abc:1-1:x", root=3)
    before = created.get_trials()
    assert study_status(config).splitlines() == [
        "halfway: 1 complete, 2 running, 2 waiting, 1 lost",
        "best tuning auroc 0.7500: trial 0, not yet chosen",
        "1 of 6 trials; trained 0 epochs (0 s)",
    ]
    assert created.get_trials() == before, "it must start and change nothing"

    created._storage.set_trial_state_values(mine._trial_id, TrialState.FAIL)
    for trial in created.get_trials(states=(TrialState.RUNNING,)):
        created._storage.set_trial_user_attr(trial._trial_id, "worker", DEAD)
    assert study_status(config).splitlines()[0::3] == [
        "halfway: 1 complete, 1 failed, 2 waiting, 2 lost",
        "no trial runs at present; to go on: ehrfusion search halfway",
    ]

    # a file of the same name that asks for more does not change what was started
    file = tmp_path / "halfway.yaml"
    written = config.model_dump(mode="json", exclude_none=True)
    file.write_text(yaml.safe_dump(written | {"search": {"trials": 50}}), encoding="utf-8")
    assert main(["search", str(file), "--status", "--runs", str(tmp_path)]) == 0
    assert "2 of 6 trials" in capsys.readouterr().out

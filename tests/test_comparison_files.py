"""What a comparison leaves: every table as CSV, LaTeX and HTML, in its folder and in a real tracking store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_comparison import BINARY, planted, tiny_config
from toy_findings import expit, findings, risks
from toy_tracking import connection, empty_runs, runs  # noqa: F401 - fixtures

from experiments.clinical.calibration import calibration_section
from experiments.clinical.decisions import decisions_section
from experiments.comparison_files import write_comparison
from experiments.config import TrackingConfig
from experiments.section import Section
from experiments.tracking.runs import Connection

NAMED = {"data_fingerprint": "d", "split_fingerprint": "s", "git_commit": "c"}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Section], Path]:
    """Return sections with tables and pictures."""
    folder = tmp_path_factory.mktemp("files")
    target, x = risks(400)
    found = findings(folder, BINARY, target, {"early": [expit(x)]}, {"early": "fusion"})
    return [each for each in (calibration_section(found), decisions_section(found)) if each is not None], folder


def test_all_tables_are_in_mlflow(logged: tuple[list[Section], Path], connection: Connection, runs: Path) -> None:
    parts, folder = logged
    config = tiny_config(folder, {"codes": "bag"}, "early").model_copy(
        update={"runs": runs, "tracking": TrackingConfig()}
    )
    comparison = planted(100, about=NAMED, fold=np.arange(300) % 3)
    target, x = risks(400)
    held_out = findings(folder, BINARY, target, {"early": [expit(x)]}, {"early": "fusion"}).held_out
    write_comparison(config, comparison, held_out, folder / "compare", parts)
    (run,) = connection.client.search_runs([connection.experiment_id], "tags.`ehrfusion.kind` = 'comparison'")
    there = {each.path: each for each in connection.client.list_artifacts(run.info.run_id)}
    tables = [name for part in parts for name in part.tables]
    wanted = {f"{name}.csv" for name in ("comparison", "differences", "leaderboard", *tables)}
    wanted |= {f"{name}.png" for part in parts for name in part.pictures}
    wanted |= {"comparison.tex", "sections.tex", "comparison.html", "comparison.json", "comparison.png", "ranks.png"}
    assert set(there) == wanted
    assert "predictions.npz" in {path.name for path in (folder / "compare").iterdir()}
    for name in wanted:
        assert there[name].file_size == (folder / "compare" / name).stat().st_size, name
    tex = (folder / "compare" / "sections.tex").read_text(encoding="utf-8")
    assert all(rf"\label{{tab:{name}}}" in tex for name in tables)
    html = (folder / "compare" / "comparison.html").read_text(encoding="utf-8")
    assert all(f"aria-label='{name.replace('_', ' ')}'" in html for name in tables)
    assert run.data.metrics["late/auroc/value"] == pytest.approx(comparison.ranking()[0].value)
    assert run.data.tags["data_fingerprint"] == "d"

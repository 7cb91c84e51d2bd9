"""Synthesis, imputation and commands: figures known by hand, files for the owner, one line for mistakes."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments.cli import main
from experiments.generative.closeness import closeness
from experiments.generative.diffusion import Training
from experiments.generative.gather import gather
from experiments.generative.imputation import hide, impute, missing_numbers
from experiments.generative.pictures import anomalies_png
from experiments.generative.synthesis import correlations, prevalence_agreement, usefulness
from experiments.generative.vectors import Column, Vectors

QUICK = ["--steps", "20"]
IDS = np.arange(400)


def flags(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, name, "codes", True) for name in names)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(each) for each in arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    return line


def test_copies_give_their_patients_away_and_fresh_rows_do_not() -> None:
    rng = np.random.default_rng(0)
    people, others, fresh = (rng.normal(size=(200, 5)) for _ in range(3))
    copied = closeness(people, others, people, IDS[:200], IDS[200:], 0)
    assert copied.copies == 1
    assert copied.membership.value == 1
    assert copied.nearer.value == 1
    assert not copied.quiet
    assert "100.0% of synthetic rows equal one" in copied.lines()[0]
    honest = closeness(people, others, fresh, IDS[:200], IDS[200:], 0)
    assert honest.copies == 0
    assert abs(honest.membership.value - 0.5) < 0.1
    assert honest.quiet


def test_rows_with_the_same_cause_are_as_useful_as_patients_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)

    def rows(told: bool) -> Vectors:
        code = rng.random(400) < 0.5
        label = np.where(rng.random(400) < 0.9, code, ~code) if told else rng.random(400) < 0.5
        return Vectors(flags("E11", "y"), np.stack([code, label], axis=1).astype(float))

    real, held_out = rows(True), rows(True)
    same, noise = (usefulness(real, held_out, rows(told), IDS, 0) for told in (True, False))
    assert same.ratio().value == pytest.approx(1, abs=0.01)
    assert noise.ratio().value < 0.75
    assert "ratio 1.00" in same.line()


def test_agreement_of_shares_and_correlations_by_hand() -> None:
    real = Vectors(flags("a", "b"), np.array([[1.0, 0], [1, 0], [1, 1], [0, 0]]))
    other = Vectors(flags("a", "b"), real.values[:, ::-1])
    assert prevalence_agreement(real, real) == pytest.approx(1)
    assert prevalence_agreement(real, other) == pytest.approx(-1)
    assert prevalence_agreement(real, Vectors(real.columns, np.ones((4, 2)))) is None
    holed = Vectors(flags("a", "b", "c"), np.array([[1.0, 2, 5], [2, 4, 5], [3, 6, 5], [4, np.nan, 5]]))
    found = correlations(holed)
    assert found[0, 1] == pytest.approx(1)
    assert np.isnan(found[0, 2])


def test_hidden_are_known_numbers_of_measurements_only() -> None:
    columns = (Column("LAB", "LAB", "codes", False), *flags("E11"), Column("notes 1", "notes", "notes", False))
    known = Vectors(columns, np.tile([[5.0, 1.0, 0.2], [np.nan, 0.0, np.nan]], (100, 1)))
    hidden = hide(known, 0)
    assert hidden[:, 1:].sum() == 0
    assert hidden[1::2].sum() == 0
    assert 10 <= hidden[::2, 0].sum() <= 30
    assert missing_numbers(known).sum(0).tolist() == [100, 0, 0]


def test_everything_missing_is_filled_in_and_nothing_else_changes(small_folder: Path) -> None:
    gathered = gather(small_folder, None)
    found = impute(gathered, Training(20, 32, width=16))
    assert set(found.filled) == {"mean", "iterative", "diffusion"}
    same = {name: each.values for name, each in found.filled.items()}
    numbers = [i for i, each in enumerate(found.filled["mean"].columns) if each.part == "codes"]
    for values in same.values():
        assert np.isfinite(values[:, numbers]).all()
        known = same["mean"] == values
        assert known.mean() > 0.5
    assert found.best in found.errors
    assert "numbers of held-out patients hidden" in " ".join(found.lines(found.best))


@pytest.mark.parametrize("verb", ["synthesise", "impute"])
def test_what_is_written_is_the_owners_alone_and_nobody_is_named(
    verb: str, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "data"))
    for path in [*folder.glob("data/*.parquet"), *folder.glob("labels/*"), folder / "metadata/subject_splits.parquet"]:
        table = pl.read_parquet(path)  # ids that stand out in any text
        table.with_columns(pl.col("subject_id") + 7_770_000_000).write_parquet(path)
    made = []
    for out in ("one", "two") if verb == "synthesise" else ("one",):
        assert main(["data", verb, str(folder), str(tmp_path / out), *QUICK]) == 0
        made.append(pl.read_parquet(next((tmp_path / out).glob("*.parquet"))))
    shown = capsys.readouterr()
    assert "777" not in shown.out + shown.err
    assert "777" not in (tmp_path / "one" / "report.txt").read_text(encoding="utf-8")
    assert made[0].equals(made[-1])  # the same seed
    files = [tmp_path / "one", *(tmp_path / "one").iterdir()]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o700, 0o600}
    if verb == "synthesise":
        assert "membership inference" in shown.out
        assert "closest record" in shown.out
        assert "not anonymous" in shown.out
        assert "subject_id" not in made[0].columns
        assert made[0]["outcome"].dtype == pl.Boolean
    else:
        assert made[0]["subject_id"].min() > 7_770_000_000  # type: ignore[operator]
        assert made[0]["LAB//creatinine"].null_count() == 0


def test_check_scores_records_and_names_nobody(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.parquet"
    assert main(["data", "check", str(small_folder), "--anomalies", str(path), *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "no errors" in shown
    assert "a value times 100 (" in shown
    assert "isolation forest" in shown
    scores = pl.read_parquet(path)
    assert scores.height == 160
    assert scores["score"].is_sorted(descending=True)
    assert scores["score"].is_finite().all()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_mistakes_have_one_line_and_leave_nothing(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert "empty" in refused(capsys, "data", "synthesise", empty, out)
    assert "unknown label 'outcom'; did you mean 'outcome'?" in refused(
        capsys, "data", "impute", small_folder, out, "--labels", "outcom"
    )
    out.mkdir()
    (out / "mine").touch()
    assert "exists; choose another folder or say --overwrite" in refused(
        capsys, "data", "synthesise", small_folder, out
    )
    shutil.rmtree(out)
    for place in (small_folder, small_folder / "labels", small_folder.parent):  # they would be gone, or read as data
        assert "cannot take its place or lie in it" in refused(
            capsys, "data", "synthesise", small_folder, place, "--overwrite"
        )
    for place, why in ((small_folder / "a.parquet", "would lie in the data folder"), (out, "to a .parquet file")):
        assert why in refused(capsys, "data", "check", small_folder, "--anomalies", place)
    folder = Path(shutil.copytree(small_folder, tmp_path / "data"))
    shutil.copy(folder / "labels" / "outcome.parquet", folder / "labels" / "another.parquet")
    assert "--labels: another, outcome" in refused(capsys, "data", "impute", folder, out)
    (folder / "labels" / "another.parquet").unlink()
    path = folder / "labels" / "outcome.parquet"
    pl.read_parquet(path).head(1).write_parquet(path)  # one patient
    alone = refused(capsys, "data", "synthesise", folder, out)
    assert alone.endswith("is empty") or "has one class only" in alone
    path.unlink()
    assert "there are no labels" in refused(capsys, "data", "impute", folder, out)
    assert not out.exists()


def test_a_picture_of_nothing_tried_is_still_a_picture() -> None:
    from experiments.generative.anomaly import Anomalies

    assert anomalies_png(Anomalies({}, (), 0, 0)).startswith(b"\x89PNG")

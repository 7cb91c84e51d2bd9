"""Synthetic folders: valid MEDS, the same from the same seed, missing and predictable as `truth.json` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import meds
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from experiments.data.check import check
from experiments.data.folder import open_dataset
from experiments.sources.synthetic import vocabulary, write_synthetic
from experiments.sources.synthetic.causes import Causes
from experiments.sources.synthetic.recipes import RECIPES
from fusion import UsageError

Written = dict[str, tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A folder of 400 patients of every recipe, in shards."""
    root = tmp_path_factory.mktemp("synthetic")
    return {
        recipe: (root / recipe, write_synthetic(root / recipe, patients=400, seed=1, recipe=recipe, shard_size=150))
        for recipe in RECIPES
    }


def events(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in open_dataset(folder).shards])


def before(folder: Path) -> pl.DataFrame:
    """What is known at the prediction time, with the outcome."""
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    return events(folder).join(labels, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))


def having(folder: Path, column: str) -> pl.DataFrame:
    """Return whether each patient has something of a column, with the outcome."""
    have = before(folder).filter(pl.col(column).is_not_null())["subject_id"].unique()
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    return labels.with_columns(has=pl.col("subject_id").is_in(have.to_list()))


# --- what is written ---


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid_meds_with_no_complaint(written: Written, recipe: str) -> None:
    folder, _ = written[recipe]
    for path in (folder / "data").glob("*.parquet"):
        meds.DataSchema.validate(pq.read_table(path))
    meds.LabelSchema.validate(pq.read_table(folder / "labels" / "outcome.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(folder / "metadata" / "codes.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(folder / "metadata" / "subject_splits.parquet"))
    meds.DatasetMetadataSchema.validate(json.loads((folder / "metadata" / "dataset.json").read_text(encoding="utf-8")))
    found = check(folder)
    assert found.ok
    warnings = [each.message for each in found.problems if each.severity == "warning"]
    if recipe == "drugs":  # of few patients with a diagnosis, all may have the drug that it is treated with
        warnings = [each for each in warnings if not each.startswith("may give the label away: ICD10CM//I50")]
    assert warnings == []
    assert found.patients == 400


def test_records_look_like_records(written: Written) -> None:
    folder, _ = written["mixed"]
    found = events(folder)
    codes = set(found["code"].unique().to_list())
    assert {"MEDS_BIRTH", "GENDER//F", "LAB//creatinine"} <= codes
    assert {"NOTE//admission", "NOTE//progress", "NOTE//radiology", "NOTE//discharge"} <= codes
    values = found.filter(pl.col("code").str.starts_with("LAB//") | pl.col("code").str.starts_with("VITAL//"))
    assert values["unit"].null_count() == values["numeric_value"].null_count() == 0
    coded = found.filter(pl.col("code").str.contains("ICD"), pl.col("time").is_not_null()).sort("subject_id", "time")
    days = coded.select(pl.col("time").diff().over("subject_id").dt.total_hours()).to_series()
    assert days.drop_nulls().n_unique() > 100
    for path in found["image_path"].drop_nulls().to_list():
        assert (folder / path).read_bytes().startswith(b"\x89PNG")


def test_codes_lie_in_a_hierarchy_and_drugs_treat_diagnoses(written: Written) -> None:
    knowledge = open_dataset(written["mixed"][0]).knowledge()
    relations = {edge.relation for edge in knowledge.edges}
    assert {"is_a", "treats", "causes"} <= relations
    parent = {edge.head: edge.tail for edge in knowledge.edges if edge.relation == "is_a"}
    leaf = next(code for code in parent if code in set(events(written["mixed"][0])["code"].to_list()))
    depth = 0
    while leaf in parent:
        leaf, depth = parent[leaf], depth + 1
    assert depth >= 2


def test_the_discharge_summary_is_a_trap_after_the_outcome(written: Written) -> None:
    folder, _ = written["mixed"]
    trap = events(folder).filter(pl.col("code") == "NOTE//discharge")
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    joined = trap.join(labels, on="subject_id")
    assert joined.height == 400
    assert (joined["time"] > joined["prediction_time"]).all()
    texts = {value: set(part["text_value"].to_list()) for (value,), part in joined.group_by("boolean_value")}
    assert not texts[True] & texts[False], "whoever read it would know the outcome"
    assert not before(folder)["code"].is_in(["NOTE//discharge", "MEDS_DEATH", "HOSPITAL_DISCHARGE"]).any()


# --- the same again ---


def test_the_same_arguments_give_the_same_folder(tmp_path: Path, written: Written) -> None:
    folder, truth = written["mixed"]
    again = write_synthetic(tmp_path / "again", patients=400, seed=1, recipe="mixed", shard_size=150)
    assert again == truth
    assert open_dataset(tmp_path / "again").fingerprint == open_dataset(folder).fingerprint
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def test_another_seed_gives_other_patients(tmp_path: Path, written: Written) -> None:
    write_synthetic(tmp_path / "other", patients=400, seed=2, recipe="mixed", shard_size=150)
    assert open_dataset(tmp_path / "other").fingerprint != open_dataset(written["mixed"][0]).fingerprint


def test_no_patient_is_lost_between_shards(written: Written) -> None:
    folder, _ = written["mixed"]
    shards = [set(pl.read_parquet(path)["subject_id"].to_list()) for path in open_dataset(folder).shards]
    assert [len(each) for each in shards] == [150, 150, 100]
    assert set.union(*shards) == set(range(1, 401))


def test_structures_are_molecules_of_drugs_in_the_dictionary() -> None:
    chemistry = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed: pip install 'ehrfusion[molecules]'")
    known = {each.code for each in vocabulary.codes(60)}
    for drug, smiles in vocabulary.SMILES.items():
        assert vocabulary.ATC + drug in known
        assert chemistry.MolFromSmiles(smiles) is not None, drug


# --- missing, and predictable ---


def test_as_many_notes_and_images_are_missing_as_asked_for(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "a", patients=2000, seed=0)
    write_synthetic(tmp_path / "b", patients=2000, seed=0, note_missing=0, image_missing=1)
    assert 1 - having(tmp_path / "a", "text_value")["has"].mean() == pytest.approx(0.3, abs=0.03)  # type: ignore[operator]
    assert 1 - having(tmp_path / "a", "image_path")["has"].mean() == pytest.approx(0.5, abs=0.03)  # type: ignore[operator]
    assert having(tmp_path / "b", "text_value")["has"].all()
    assert not having(tmp_path / "b", "image_path")["has"].any()


@pytest.mark.parametrize(("missing", "differs"), [("random", False), ("severity", True)])
def test_missing_by_severity_hangs_on_the_risk_and_at_random_does_not(
    tmp_path: Path, missing: Any, differs: bool
) -> None:
    write_synthetic(tmp_path / "data", patients=2000, seed=0, missing=missing)
    for column, rate in (("text_value", 0.7), ("image_path", 0.5)):
        table = having(tmp_path / "data", column)
        share = {value: part["has"].mean() for (value,), part in table.group_by("boolean_value")}
        assert table["has"].mean() == pytest.approx(rate, abs=0.03)
        gap = share[False] - share[True]
        assert gap > 0.15 if differs else abs(gap) < 0.07


def test_held_out_patients_of_the_missing_recipe_lack_what_training_patients_have(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", patients=3000, seed=0, recipe="missing")
    splits = pl.read_parquet(tmp_path / "data" / "metadata" / "subject_splits.parquet")
    for column, (usual, late) in {"text_value": (0.1, 0.5), "image_path": (0.1, 0.85)}.items():
        table = having(tmp_path / "data", column).join(splits, on="subject_id")
        gone = {split: 1 - part["has"].mean() for (split,), part in table.group_by("split")}
        assert [gone["train"], gone["tuning"]] == pytest.approx([usual, usual], abs=0.04)
        assert gone["held_out"] == pytest.approx(late, abs=0.06)


def test_availability_is_drawn_as_the_joint_distribution_says() -> None:
    causes = Causes(RECIPES["missing"], "severity", 0.3, 0.5).held_out
    assert (causes.note_missing, causes.image_missing) == RECIPES["missing"].missing_held_out
    for pattern in (0, len(causes.patterns) - 1):
        drawn = causes.draw_availability(np.full(40_000, pattern), np.random.default_rng(0))
        shares = np.bincount(drawn, minlength=len(causes.availability)) / len(drawn)
        wanted = causes.joint[pattern] / causes.joint[pattern].sum()
        np.testing.assert_allclose(shares, wanted, atol=0.01)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("missing", ["random", "severity"])
def test_the_best_possible_auroc_is_the_one_that_simulation_gives(recipe: str, missing: str) -> None:
    causes = Causes(RECIPES[recipe], missing, 0.3, 0.5)
    pattern, available, outcome = causes.draw(60_000, np.random.default_rng(0))
    for modalities in (("codes",), ("notes",), ("graph", "images"), ("codes", "notes", "images", "graph")):
        scores = causes.score(modalities)[pattern, available]
        simulated = roc_auc_score(outcome, scores)
        assert causes.auroc(modalities) == pytest.approx(simulated, abs=0.012)


def test_the_truth_of_every_recipe_is_what_its_story_says(written: Written) -> None:
    truth = {recipe: found for recipe, (_, found) in written.items()}
    best = {recipe: found["bayes_auroc"]["population"] for recipe, found in truth.items()}
    single = {recipe: max(found["bayes_auroc_single"].values()) for recipe, found in truth.items()}
    assert best["noise"] == 0.5
    assert single["synergy"] < 0.53 < 0.8 < best["synergy"]
    assert truth["synergy"]["fusions_that_cannot"] == ["late"]
    assert best["unique"] - single["unique"] > 0.08
    assert best["redundant"] - single["redundant"] < 0.02
    assert best["mixed"] - single["mixed"] > 0.05
    assert truth["missing"]["bayes_auroc"]["held_out"] < truth["missing"]["bayes_auroc"]["train"] - 0.05
    assert truth["ancestor"]["best_single_modality"] in ("codes", "graph")
    rare = truth["ancestor"]["rare_leaves"]
    assert rare["held_out_auroc_known_leaves_only"] < 0.6 < 0.85 < truth["ancestor"]["bayes_auroc_single"]["graph"]


def test_truth_is_written_as_it_is_returned(written: Written) -> None:
    for folder, truth in written.values():
        assert json.loads((folder / "truth.json").read_text(encoding="utf-8")) == truth
        share = pl.read_parquet(folder / "labels" / "outcome.parquet")["boolean_value"].mean()
        assert truth["prevalence"] == pytest.approx(share, abs=1e-4)


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "mixt"}, "mixed"),
        ({"note_missing": 1.5}, r"note_missing must be between 0 and 1; got 1\.5"),
        ({"image_missing": -0.1}, "image_missing must be between 0 and 1"),
        ({"patients": 10}, "patients must be at least 50"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_synthetic(tmp_path / "data", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_overwritten_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="exists; choose another folder or say --overwrite"):
        write_synthetic(tmp_path / "data", patients=60)
    with pytest.raises(UsageError, match=r"data is no data folder .* and --overwrite replaces nothing else"):
        write_synthetic(tmp_path / "data", patients=60, overwrite=True)
    assert (tmp_path / "data" / "thesis.txt").exists()
    (tmp_path / "data" / "thesis.txt").unlink()
    for patients in (70, 60):
        write_synthetic(tmp_path / "data", patients=patients, overwrite=True)
    assert check(tmp_path / "data").patients == 60
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.sources.synthetic import write

    real, calls = write._shard, 0

    def fails(*arguments: Any) -> pl.DataFrame:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(write, "_shard", fails)
    with pytest.raises(OSError, match="No space left"):
        write_synthetic(tmp_path / "data", patients=200, shard_size=100)
    assert not list(tmp_path.iterdir())

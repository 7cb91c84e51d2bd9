"""The store: prepared once, learnt from training patients, whole or not at all, anew when what it hangs on changed."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from toy_store import ENCODER, PLANS, folder, left, open_at, plan, store  # noqa: F401 - fixtures

from encoders.preprocessor import Preparation
from experiments.data import store as store_module
from experiments.data.folder import open_dataset
from experiments.data.pack import PackWriter, pack_records
from experiments.data.reader import iterate_records
from experiments.data.store import Store, dataset_fingerprint
from fusion import UsageError


def content(store: Store, each: Preparation) -> dict[str, torch.Tensor]:
    source = store.source(each)
    return {**source.packed.columns, "offsets": source.packed.offsets, "row_index": source.row_index}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(each, second[name]) for name, each in first.items())


# --- what is in it ---


@pytest.mark.parametrize("each", PLANS, ids=lambda each: each.modality)
def test_what_is_stored_is_what_encoding_in_memory_gives(store: Store, each: Preparation) -> None:
    cohort = store.cohort
    found = dict(
        iterate_records(store.dataset, cohort.subject_ids, cohort.prediction_times, modalities=(each.modality,))
    )
    packed, index = pack_records(store.preprocessor(each), [found[row] for row in range(len(found))])
    rows = torch.arange(len(found))
    source = store.source(each)
    torch.testing.assert_close(source.lengths(rows), packed.lengths(index))
    assert torch.equal(source.row_index < 0, index < 0)
    stored, expected = source.collate(rows), source.preprocessor.collate(packed, index)
    for name in stored._fields:
        torch.testing.assert_close(getattr(stored, name), getattr(expected, name), equal_nan=True)


def test_whoever_lacks_a_modality_has_no_row(store: Store) -> None:
    images = store.source(plan("images"))
    events = pl.concat([pl.read_parquet(path) for path in store.dataset.shards])
    have = set(events.filter(pl.col("image_path").is_not_null())["subject_id"].to_list())
    expected = [subject in have for subject in store.cohort.subject_ids.tolist()]
    assert (images.row_index >= 0).tolist() == expected
    assert 0.3 < np.mean(expected) < 0.7


def test_preprocessors_learn_from_training_patients_only(folder: Path, tmp_path: Path) -> None:
    """A code that only tuning and held-out patients have is unknown, whatever it would be worth."""
    splits = dict(pl.read_parquet(folder / "metadata" / "subject_splits.parquet").iter_rows())
    late = [subject for subject, split in splits.items() if split != "train"]
    for path in sorted((folder / "data").glob("*.parquet")):
        events = pl.read_parquet(path)
        mark = (
            events.filter(pl.col("time").is_not_null() & pl.col("subject_id").is_in(late))
            .group_by("subject_id", maintain_order=True)
            .first()
        )
        marked = mark.with_columns(code=pl.lit("TELLTALE")).select(events.columns)
        pl.concat([events, marked]).sort("subject_id", "time", maintain_order=True).write_parquet(path)
    found = open_at(folder, tmp_path / "cache").preprocessor(plan("codes"))
    assert "TELLTALE" not in found.codes
    assert len(found.codes) > 100


def test_options_reach_the_preprocessor(store: Store) -> None:
    few = store.source(plan("codes", max_events=4))
    assert int(few.lengths(torch.arange(len(store.cohort.subject_ids))).max()) <= 5
    assert store.fingerprint(plan("codes", max_events=4)) != store.fingerprint(plan("codes"))


# --- built once, anew, or not at all ---


def test_it_is_built_once_and_opened_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    again = open_at(store.dataset.folder, store.cache)
    monkeypatch.setattr(store_module, "iterate_records", lambda *_, **__: pytest.fail("records were read again"))
    for each in PLANS:
        assert same(content(again, each), content(store, each))


def test_the_same_folder_gives_the_same_bytes(store: Store, folder: Path, tmp_path: Path) -> None:
    other = open_at(folder, tmp_path / "cache")
    for each in PLANS:
        assert other.fingerprint(each) == store.fingerprint(each)
        assert same(content(other, each), content(store, each))


def change_events(folder: Path) -> None:
    path = folder / "data" / "00000.parquet"
    table = pl.read_parquet(path)
    table.with_columns(pl.col("numeric_value") + 1).write_parquet(path)


def change_labels(folder: Path) -> None:
    path = folder / "labels" / "outcome.parquet"
    pl.read_parquet(path).with_columns(~pl.col("boolean_value")).write_parquet(path)


def change_splits(folder: Path) -> None:
    path = folder / "metadata" / "subject_splits.parquet"
    pl.read_parquet(path).with_columns(pl.col("split").reverse()).write_parquet(path)


def change_graph(folder: Path) -> None:
    path = folder / "graph" / "edges.parquet"
    pl.read_parquet(path)[1:].write_parquet(path)


def change_image(folder: Path) -> None:
    path = next((folder / "images").rglob("*.png"))
    other = next(each for each in (folder / "images").rglob("*.png") if each.read_bytes() != path.read_bytes())
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("change", [change_events, change_labels, change_splits, change_graph, change_image])
def test_it_is_built_anew_when_the_data_changed(folder: Path, tmp_path: Path, change: Any) -> None:
    before = open_at(folder, tmp_path / "cache").fingerprint(PLANS[0])
    assert open_at(folder, tmp_path / "cache").fingerprint(PLANS[0]) == before
    change(folder)
    assert open_at(folder, tmp_path / "cache").fingerprint(PLANS[0]) != before


@pytest.mark.parametrize("options", [{"window_days": 30}, {"bad_images": "missing"}, {"splits": {"by": "patient"}}])
def test_it_is_built_anew_for_other_settings(store: Store, options: dict[str, Any]) -> None:
    other = open_at(store.dataset.folder, store.cache, **options)
    assert other.data_fingerprint == store.data_fingerprint
    assert other.fingerprint(PLANS[0]) != store.fingerprint(PLANS[0])


def test_a_fingerprint_is_of_the_content_not_of_the_place_or_time(folder: Path, tmp_path: Path) -> None:
    first = dataset_fingerprint(open_dataset(folder), tmp_path / "cache")
    for path in folder.rglob("*.parquet"):
        path.touch()
    assert dataset_fingerprint(open_dataset(folder), tmp_path / "cache") == first
    moved = folder.rename(tmp_path / "moved")
    assert dataset_fingerprint(open_dataset(moved), tmp_path / "elsewhere") == first


def test_a_build_that_fails_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_at(folder, tmp_path / "cache")
    real, appended = PackWriter.append, 0

    def fails(self: PackWriter, *arguments: Any) -> None:
        nonlocal appended
        appended += 1
        if appended == 200:
            raise OSError(28, "No space left on device")
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PackWriter, "append", fails)
        with pytest.raises(OSError, match="No space left"):
            found.prepare(PLANS)
    assert not left(found.cache)
    found.prepare(PLANS)
    assert left(found.cache) == set(ENCODER)


def _build(folder: Path, cache: Path, barrier: Any, answers: Any) -> None:
    found = open_at(folder, cache)
    barrier.wait()
    answers.put({each.modality: int(found.source(each).packed.offsets[-1]) for each in PLANS})


def test_processes_that_build_at_once_all_get_the_same(store: Store, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.Queue()
    arguments = (store.dataset.folder, tmp_path / "cache", barrier, answers)
    builders = [spawn.Process(target=_build, args=arguments) for _ in range(3)]
    for each in builders:
        each.start()
    found = [answers.get(timeout=60) for _ in builders]
    for each in builders:
        each.join()
    expected = {each.modality: int(store.source(each).packed.offsets[-1]) for each in PLANS}
    assert found == [expected] * 3
    assert left(tmp_path / "cache") == set(ENCODER)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("spoil", [flipped, lambda content: content[:-8], lambda content: content + bytes(8)])
def test_bytes_that_are_not_as_they_were_written_are_not_trained_on(folder: Path, tmp_path: Path, spoil: Any) -> None:
    """A bit flipped, items cut off, items too many: each is a whole tensor, only another one."""
    open_at(folder, tmp_path / "cache").prepare(PLANS[:1])
    store = open_at(folder, tmp_path / "cache")
    files = sorted(store.folder(PLANS[0]).glob("*.bin"))
    assert {each.stem for each in files} >= {"codes", "values", "offsets", "row_index"}
    for path in files:
        content = path.read_bytes()
        path.write_bytes(spoil(content))
        with pytest.raises(UsageError, match=r"these prepared tensors are damaged .*; remove the folder, and it is"):
            store.source(PLANS[0])
        path.write_bytes(content)
    store.source(PLANS[0])

"""The store: prepared once, learnt from training patients, whole or not at all, anew when what it hangs on changed."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from encoders import ENCODERS
from encoders.preprocessor import Preparation, preparation
from encoders.records import UnreadableImage
from experiments.config import DataConfig, parse_config
from experiments.data import store as store_module
from experiments.data.batches import iterate_batches
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.pack import PackWriter, open_pack, pack_records
from experiments.data.reader import iterate_records
from experiments.data.store import Store, dataset_fingerprint
from experiments.sources import synthetic
from experiments.workspace import open_store
from fusion import Spec

ENCODER = {"codes": "bag", "notes": "bag", "images": "conv", "graph": "ancestors"}


def plan(modality: str, **options: Any) -> Preparation:
    return preparation(ENCODERS[modality], modality, Spec(ENCODER[modality]), options)


PLANS = [plan(modality) for modality in ENCODER]


def open_at(folder: Path, cache: Path, **options: Any) -> Store:
    config = DataConfig(folder=folder, **options)
    dataset = open_dataset(folder)
    return Store(dataset, load_cohort(dataset, config), config, cache)


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small folder to write into."""
    return Path(shutil.copytree(small_folder, tmp_path / "data"))


@pytest.fixture(scope="module")
def store(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small folder, prepared for every modality."""
    found = open_at(small_folder, tmp_path_factory.mktemp("store"))
    found.prepare(PLANS)
    return found


def content(store: Store, each: Preparation) -> dict[str, torch.Tensor]:
    source = store.source(each)
    return {**source.packed.columns, "offsets": source.packed.offsets, "row_index": source.row_index}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(each, second[name]) for name, each in first.items())


def left(cache: Path) -> set[str]:
    """What lies in a cache besides remembered fingerprints, by modality."""
    return {path.name.split("-")[0] for path in cache.iterdir() if not path.name.startswith("fingerprint-")}


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


# --- images that cannot be read ---


def damage(folder: Path) -> str:
    path = sorted((folder / "images").rglob("*.png"))[3]
    path.write_bytes(path.read_bytes()[:40])
    return path.name


def test_an_unreadable_image_ends_the_build_and_is_named(folder: Path, tmp_path: Path) -> None:
    name = damage(folder)
    found = open_at(folder, tmp_path / "cache")
    with pytest.raises(UnreadableImage, match=name):
        found.prepare(PLANS)
    assert not left(found.cache)


def test_an_unreadable_image_is_missing_if_the_user_says_so(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_at(folder, tmp_path / "cache").source(plan("images")).row_index
    subject = int(Path(damage(folder)).stem)
    found = open_at(folder, tmp_path / "cache", bad_images="missing")
    with caplog.at_level(logging.WARNING, "ehrfusion"):
        after = found.source(plan("images")).row_index
    assert "1 unreadable images are treated as missing" in caplog.text
    mine = torch.from_numpy(found.cohort.subject_ids == subject)
    assert (before >= 0)[mine].all()
    assert torch.equal(after >= 0, (before >= 0) & ~mine)


# --- packs and batches ---


def test_a_pack_of_nobody_is_written_and_opened(store: Store, tmp_path: Path) -> None:
    for each in PLANS:
        with PackWriter(tmp_path / each.modality, store.preprocessor(each), 3) as writer:
            writer.finish({})
        packed, index = open_pack(tmp_path / each.modality)
        assert index.tolist() == [-1, -1, -1]
        assert packed.offsets.tolist() == [0]
        tokens = store.preprocessor(each).collate(packed, index)
        assert not tokens.mask.any()


@pytest.mark.parametrize("shuffle", [None, 0, 1])
@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_every_row_is_in_one_batch(store: Store, shuffle: int | None, size: int) -> None:
    feeds = {each.modality: store.source(each) for each in PLANS}
    rows, targets = store.cohort.rows("train"), store.cohort.targets
    batches = list(iterate_batches(feeds, targets, rows, size, shuffle=shuffle))
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == rows.tolist()
    for batch in batches:
        assert 0 < len(batch.rows) <= size
        np.testing.assert_array_equal(batch.target.numpy(), targets[batch.rows.numpy()])
        assert {len(inputs.mask) for inputs in batch.inputs.values()} == {len(batch.rows)}


def test_batches_follow_the_seed_and_rows_of_a_length_lie_together(store: Store) -> None:
    feeds = {"codes": store.source(plan("codes"))}
    rows, targets = store.cohort.rows("train"), store.cohort.targets

    def drawn(shuffle: int | None) -> list[list[int]]:
        return [batch.rows.tolist() for batch in iterate_batches(feeds, targets, rows, 8, shuffle=shuffle)]

    assert drawn(0) == drawn(0) != drawn(1)
    spread = [np.ptp(feeds["codes"].lengths(torch.tensor(batch)).numpy()) for batch in drawn(0)]
    mixed = np.random.default_rng(0).permutation(rows)
    loose = [np.ptp(feeds["codes"].lengths(torch.tensor(mixed[i : i + 8])).numpy()) for i in range(0, len(rows), 8)]
    assert np.mean(spread) < 0.5 * np.mean(loose)


def test_no_rows_give_no_batch(store: Store) -> None:
    feeds = {"codes": store.source(plan("codes"))}
    for shuffle in (None, 0):
        empty = np.empty(0, np.int64)
        assert not list(iterate_batches(feeds, store.cohort.targets, empty, 8, shuffle=shuffle))


def test_patients_that_two_ask_for_at_once_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second writer would move the folder away from under the first one's reader."""
    real, written = synthetic.write_synthetic, list[Path]()

    def noted(folder: Path, **settings: Any) -> Any:
        written.append(folder)
        time.sleep(0.3)  # long enough for the other to ask
        return real(folder, **settings)

    monkeypatch.setattr(synthetic, "write_synthetic", noted)
    data = {"folder": tmp_path / "data", "synthetic": {"patients": 60}}
    config = parse_config({"name": "t", "runs": tmp_path, "data": data, "model": {"encoders": {"codes": "bag"}}})
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(open_store, [config, config]))
    assert written == [tmp_path / "data"]
    assert stores[0].data_fingerprint == stores[1].data_fingerprint

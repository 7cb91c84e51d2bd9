"""Images that cannot be read, packs and batches."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_store import PLANS, folder, left, open_at, plan, store  # noqa: F401 - fixtures

from encoders.records import UnreadableImage
from experiments.config import parse_config
from experiments.data.batches import iterate_batches
from experiments.data.pack import PackWriter, open_pack
from experiments.data.store import Store
from experiments.sources import synthetic
from experiments.workspace import open_store

# --- images that cannot be read ---


def damage(folder: Path) -> str:
    path = sorted((folder / "images").rglob("*.png"))[3]
    path.write_bytes(path.read_bytes()[:40])
    return path.name


def test_an_unreadable_image_ends_the_build_and_is_named(folder: Path, tmp_path: Path) -> None:
    name = damage(folder)
    found = open_at(folder, tmp_path / "cache")
    with pytest.raises(UnreadableImage, match=r"00000\.parquet: row \d+: image_path: unreadable image: ") as raised:
        found.prepare(PLANS)
    assert raised.value.path.name == name
    assert name not in str(raised.value)  # files are often named after patients
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

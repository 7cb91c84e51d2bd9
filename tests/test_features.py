"""Features of frozen encoders: computed once, equal to those computed anew, and never stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_language import save_language

from encoders import ENCODERS
from encoders.preprocessor import Preparation, preparation
from experiments import features as features_module
from experiments.config import parse_config
from experiments.data.store import Store
from experiments.features import FeatureSource, backbone_digest, feature_source
from experiments.workspace import open_store
from fusion import Spec, UsageError
from fusion.component import build

CPU = torch.device("cpu")
SPEC = Spec("timm", {"model": "test_vit.r160_in1k", "pretrained": False, "frozen": True})
SPLITS = ("train", "tuning")


@pytest.fixture(scope="module")
def plan() -> Preparation:
    return preparation(ENCODERS["images"], "images", SPEC, {"size": 32})


@pytest.fixture
def store(small_folder: Path, tmp_path: Path) -> Store:
    """The small folder with a cache of its own."""
    model = {"encoders": {"images": "conv"}}
    return open_store(parse_config({"name": "t", "runs": tmp_path, "data": {"folder": small_folder}, "model": model}))


def encoder(store: Store, plan: Preparation, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build(ENCODERS["images"], SPEC, store.preprocessor(plan), 8, where="encoders.images")


def files(store: Store) -> list[Path]:
    return sorted(store.cache.glob("features-*.safetensors"))


def test_cached_features_are_those_computed_anew(store: Store, plan: Preparation) -> None:
    frozen = encoder(store, plan).eval()
    found = feature_source(frozen, plan, store, SPLITS, CPU)
    rows = torch.cat([torch.from_numpy(store.cohort.rows(split)) for split in SPLITS])
    cached, fresh = found.collate(rows), frozen.features(store.source(plan).collate(rows))
    assert torch.equal(cached.mask, fresh.mask)
    assert cached.mask.any(1).sum() > 20
    kept = fresh.values[fresh.mask]
    torch.testing.assert_close(cached.values[cached.mask], kept.to(torch.bfloat16).float(), rtol=0.02, atol=0.02)
    with torch.no_grad():
        torch.testing.assert_close(frozen(cached).values, frozen(fresh).values, rtol=0.05, atol=0.05)


def test_rows_of_other_splits_and_of_patients_without_images_have_none(store: Store, plan: Preparation) -> None:
    found = feature_source(encoder(store, plan), plan, store, SPLITS, CPU)
    images = store.source(plan).row_index >= 0
    asked = torch.from_numpy((store.cohort.split == "train") | (store.cohort.split == "tuning"))
    assert torch.equal(found.position >= 0, images & asked)
    assert torch.equal(found.lengths(torch.arange(len(images))) > 0, images & asked)
    assert len(files(store)) == 2, "held-out features are computed when they are asked for, not before"


def count(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note every file that is computed."""
    real, computed = features_module._compute, list[Path]()

    def noted(*arguments: Any) -> None:
        computed.append(arguments[4])
        real(*arguments)

    monkeypatch.setattr(features_module, "_compute", noted)
    return computed


def test_they_are_computed_once(store: Store, plan: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = count(monkeypatch)
    first = feature_source(encoder(store, plan), plan, store, SPLITS, CPU)
    again = feature_source(encoder(store, plan), plan, store, SPLITS, CPU)
    assert len(computed) == 2
    assert torch.equal(first.packed.columns["values"], again.packed.columns["values"])


def test_other_weights_or_other_data_are_computed_anew(
    store: Store, plan: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count(monkeypatch)
    feature_source(encoder(store, plan), plan, store, ("train",), CPU)
    feature_source(encoder(store, plan, seed=1), plan, store, ("train",), CPU)
    larger = replace(plan, options={**plan.options, "size": 48})
    feature_source(encoder(store, plan), larger, store, ("train",), CPU)
    assert len(set(computed)) == 3


def test_another_setting_of_a_frozen_encoder_is_computed_anew(store: Store, tmp_path: Path) -> None:
    """Features averaged over four neighbours must not be served to a trial that averages over eight."""
    model = save_language(tmp_path / "language", "no fever pain chest", positions=64)
    found = {}
    for stride in (4, 8, 4):
        spec = Spec("pretrained", {"model": model, "stride": stride})
        mine = preparation(ENCODERS["notes"], "notes", spec, {"max_tokens": 32})
        frozen = build(ENCODERS["notes"], spec, store.preprocessor(mine), 8, where="encoders.notes")
        rows = torch.from_numpy(store.cohort.rows("train"))
        cached = feature_source(frozen, mine, store, ("train",), CPU).collate(rows)
        assert torch.equal(cached.mask, frozen.features(store.source(mine).collate(rows)).mask)
        found[stride] = cached.mask.sum()
    assert found[4] > found[8]
    assert len(files(store)) == 2


def test_what_is_trained_on_top_does_not_matter(
    store: Store, plan: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count(monkeypatch)
    frozen = encoder(store, plan)
    feature_source(frozen, plan, store, ("train",), CPU)
    with torch.no_grad():
        for parameter in frozen.parameters():
            if parameter.requires_grad:
                parameter += 1
    feature_source(frozen, plan, store, ("train",), CPU)
    assert len(computed) == 1


def test_the_digest_is_of_every_weight(store: Store, plan: Preparation) -> None:
    backbone = encoder(store, plan).backbone()
    before = backbone_digest(backbone)
    assert backbone_digest(encoder(store, plan).backbone()) == before
    with torch.no_grad():
        next(iter(backbone.parameters())).view(-1)[0] += 1e-3
    assert backbone_digest(backbone) != before


@pytest.mark.parametrize("place", ["features", "_write_safetensors"])
def test_a_failure_leaves_nothing(store: Store, plan: Preparation, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    frozen = encoder(store, plan)
    before = sorted(store.cache.iterdir())

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(frozen if place == "features" else features_module, place, fail)
        with pytest.raises(OSError, match="No space left"):
            feature_source(frozen, plan, store, ("train",), CPU)
    assert sorted(store.cache.iterdir()) == before
    assert isinstance(feature_source(frozen, plan, store, ("train",), CPU), FeatureSource)


def test_features_that_are_not_as_they_were_written_are_not_trained_on(store: Store, plan: Preparation) -> None:
    found = feature_source(encoder(store, plan), plan, store, ("tuning",), CPU)
    assert len(found.packed.offsets) > 1
    [path] = files(store)
    content = path.read_bytes()
    spoiled = {"differs from its checksum": content[:-1] + bytes([content[-1] ^ 1]), "not readable": content[:-8]}
    for why, each in spoiled.items():
        path.unlink()  # the old content stays mapped above
        path.write_bytes(each)
        with pytest.raises(
            UsageError, match=rf"features-\w+\.safetensors: {why}.*; remove the file, and it is made again"
        ):
            feature_source(encoder(store, plan), plan, store, ("tuning",), CPU)


def test_nobody_with_an_image(store: Store, plan: Preparation) -> None:
    """A split in which nobody has the modality is a file of nothing, not an error."""
    frozen = encoder(store, plan)
    store.source(plan).row_index.fill_(-1)
    found = feature_source(frozen, plan, store, SPLITS, CPU)
    tokens = found.collate(torch.arange(5))
    assert not tokens.mask.any()
    assert tokens.values.shape[0] == 5
    with torch.no_grad():
        assert frozen.eval()(tokens).mask.shape[0] == 5

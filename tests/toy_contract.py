"""What tests of the contract share: every component, and patients made by hand with every pattern of missing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import Tensor, nn
from toy_language import save_language

from encoders import ENCODERS
from encoders.artefact import ABOUT, WEIGHTS, weights_digest
from encoders.preprocessor import Preparation, preparation
from encoders.records import CodeEvents, Edge, Image, Knowledge, Note, Record
from experiments.data.pack import pack_records
from fusion import Fused
from fusion.component import Choice, Genome, Spec, build, hyperparameters

DIM = 8
NAMES = ("codes", "notes", "images")
LANGUAGE = "<the tiny language model>"  # stands for a folder that the tests make
ARTEFACT = "<a tiny pre-trained encoder>"  # so does this
PRETRAINED = {"codes": "transformer", "notes": "transformer", "images": "conv", "graph": "gbert"}
OPTIONS: dict[str, dict[str, Any]] = {
    "codes": {"max_events": 16, "min_count": 1},
    "images": {"size": 64},
    "notes": {"min_count": 1},
}
SMALL: dict[str, dict[str, Any]] = {  # where the default is large, wants a download or never comes to its limit
    "codes.gru": {"steps": 8},
    "codes.record_text": {"model": LANGUAGE},
    "notes.pretrained": {"model": LANGUAGE, "stride": 4},
    "notes.lora": {"model": LANGUAGE, "stride": 4},
    "graph.gbert": {"features": "descriptions"},  # what is known about nodes takes turns
    "graph.hap": {"features": "molecules"},
    "graph.personal": {"pretraining": "transe"},
    "graph.rgcn": {"pretraining": "distmult"},
    **{f"{modality}.artefact": {"path": ARTEFACT} for modality in PRETRAINED},
    "images.timm": {"model": "test_resnet"},
    "images.torchvision": {"model": "squeezenet1_1"},
}


class Case(NamedTuple):
    """A catalogued encoder with the hyperparameters that make it small."""

    modality: str
    name: str
    params: dict[str, Any]

    @property
    def component(self) -> type:
        return ENCODERS[self.modality][self.name]


def all_cases() -> Iterator[tuple[str, Case]]:
    for modality, catalogue in ENCODERS.items():
        for name, component in catalogue.items():
            params = SMALL.get(f"{modality}.{name}", {})
            if name == "artefact":
                yield f"{modality}.artefact-probe", Case(modality, name, {**params, "use": "probe"})
                yield f"{modality}.artefact-frozen", Case(modality, name, {**params, "use": "frozen"})
            if "frozen" not in hyperparameters(component):
                yield f"{modality}.{name}", Case(modality, name, params)
                continue
            yield f"{modality}.{name}", Case(modality, name, {**params, "frozen": False})
            yield f"{modality}.{name}-frozen", Case(modality, name, {**params, "frozen": True})


def corners(component: type) -> Iterator[dict[str, Any]]:
    """The ends of every range alone, then all low ends and all high ends together."""
    lows, highs = {}, {}
    for name, parameter in hyperparameters(component).items():
        if parameter.range is None:
            continue
        limits = parameter.range
        if name == "model":
            continue  # a search among named models needs their weights
        if isinstance(limits, Genome):
            ends: Any = tuple(limits.options(NAMES, {}).items())
            ends = tuple({gene: choices[place] for gene, choices in ends} for place in (0, -1))
        else:
            ends = limits.options if isinstance(limits, Choice) else (limits.low, limits.high)
        yield from ({name: end} for end in ends)
        lows[name], highs[name] = ends[0], ends[-1]
    yield from (lows, highs)


each_encoder = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in all_cases()])
each_junk = pytest.mark.parametrize("junk", [float("nan"), float("inf")], ids=str)


def events(*each: tuple[str, float, float | None]) -> CodeEvents:
    codes, days, values = zip(*each, strict=True)
    values = [np.nan if value is None else value for value in values]
    return CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32))


KNOWLEDGE = Knowledge(
    (
        Edge("ICD//E11.9", "is_a", "ICD//E11"),
        Edge("ICD//E11.2", "is_a", "ICD//E11"),
        Edge("ICD//E11", "is_a", "ICD//E"),
        Edge("ICD//I10", "is_a", "ICD//I"),
        Edge("DRUG//metformin", "treats", "ICD//E11"),
        Edge("LAB//glucose", "about", "ICD//E11"),
        Edge("DRUG//phenformin", "treats", "ICD//E11"),
    ),
    {"ICD//E11": "type 2 diabetes"},
    {"DRUG//metformin": "CN(C)C(=N)NC(=N)N", "DRUG//phenformin": "NC(=N)NC(=N)NCCc1ccccc1"},
)
EVENTS = [
    events(("SEX//F", 0, None), ("ICD//E11.9", 400, None), ("LAB//glucose", 2, 180.0), ("LAB//glucose", 0.5, 90.0)),
    events(("ICD//I10", 30, None)),
    events(
        ("SEX//M", 0, None),
        ("DRUG//metformin", 9, 500.0),
        ("LAB//glucose", 3, np.inf),
        ("ICD//I10", 1, None),
        ("DRUG//metformin", 1, 250.0),
    ),
    events(*[("LAB//glucose", 20.0 - i, 90.0 + 7 * i) for i in range(20)], ("ICD//E11.2", 0.1, None)),
]
NOTES = [
    (Note("No fever. Chest pain since 2 days", 9.0, "nursing"), Note("the cough is worse", 1.0, "radiology")),
    (Note("fever", 0.2, "nursing"),),
    (Note("", 3.0, "empty"), Note("patient has no cough, no pain; " * 4, 2.0, "discharge")),
    (Note("chest pain", 5.0, "nursing"),) * 3,
]
PATTERNS = list(itertools.product([True, False], repeat=3))  # has codes, has notes, has images
NOBODY = PATTERNS.index((False, False, False))


def make_records(folder: Path) -> list[Record]:
    random = np.random.default_rng(0)
    records, seen = [], [0, 0, 0]
    for has in PATTERNS:
        turn = [count % 4 for count in seen]
        seen = [count + each for count, each in zip(seen, has, strict=True)]
        images = []
        for i in range(1 + turn[2] % 3):
            path = folder / f"{len(records)}-{i}.png"
            shape = (10 + 4 * i, 14, 3) if turn[2] % 2 else (12, 40)
            Pillow.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
            images.append(Image(path, 4.0 - i, ("front", "Side")[i % 2]))
        codes, notes = EVENTS[turn[0]], NOTES[turn[1]]
        records.append(
            Record(
                **({"codes": codes} if has[0] else {}),
                notes=notes if has[1] else (),
                images=tuple(images) if has[2] else (),
            )
        )
    return records


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a language model of two layers and its tokenizer, as transformers saves them."""
    digits = " ".join([*"0123456789", *(f"##{digit}" for digit in "0123456789")])
    words = f"fever cough pain chest no the patient ##s {digits}"
    return save_language(tmp_path_factory.mktemp("language"), words, positions=256)


class World:
    """The patients, and everything prepared from them once."""

    def __init__(self, folder: Path, language: str) -> None:
        self.records, self.language = make_records(folder), language
        self.folder = folder
        self._packs: dict[tuple[str, str], Any] = {}

    def spec(self, case: Case, **params: Any) -> Spec:
        chosen = {**case.params, **params}
        made = {LANGUAGE: self.language}
        if ARTEFACT in chosen.values():
            made[ARTEFACT] = self.artefact(case.modality)
        return Spec(case.name, {k: made.get(v, v) for k, v in chosen.items()})

    def artefact(self, modality: str) -> str:
        """Write an encoder as pre-training does, unless it is there."""
        folder = self.folder / "pretrained" / modality
        if not folder.is_dir():
            case = Case(modality, PRETRAINED[modality], {})
            tensors = self.encoder(case).state_dict()
            data = {"name": "x", "options": {}, "data": self.prepared(case)[0].to_dict()}
            about = {"format": 1, "modality": modality, "encoder": {"name": case.name}, "dim": DIM}
            folder.mkdir(parents=True)
            save_file(tensors, folder / WEIGHTS)
            about |= {"preprocessor": data, "sha256": weights_digest(tensors)}
            (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        return str(folder)

    def plan(self, case: Case) -> Preparation:
        catalogue = ENCODERS[case.modality]
        return preparation(catalogue, case.modality, self.spec(case), OPTIONS.get(case.modality))

    def fit(self, case: Case, records: Sequence[Record]) -> Any:
        plan = self.plan(case)
        return plan.preprocessor.fit(iter(records), KNOWLEDGE, **plan.options)

    def prepared(self, case: Case) -> tuple[Any, Any, Tensor]:
        key = self.plan(case).key
        if key not in self._packs:
            preprocessor = self.fit(case, self.records)
            self._packs[key] = preprocessor, *pack_records(preprocessor, self.records)
        return self._packs[key]

    def inputs(self, case: Case, rows: Sequence[int] = range(len(PATTERNS))) -> Any:
        preprocessor, packed, index = self.prepared(case)
        return preprocessor.collate(packed, index[list(rows)])

    def present_rows(self, case: Case) -> list[int]:
        return (self.prepared(case)[2] >= 0).nonzero().flatten().tolist()

    def encoder(self, case: Case, seed: int = 0, **params: Any) -> nn.Module:
        case = case._replace(params={**case.params, **params})  # some hyperparameters ask for their own preparation
        torch.manual_seed(seed)
        catalogue = ENCODERS[case.modality]
        return build(catalogue, self.spec(case), self.prepared(case)[0], DIM).eval()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, language: str) -> World:
    return World(tmp_path_factory.mktemp("images"), language)


def with_junk(inputs: Any, junk: float) -> Any:
    """Write junk behind the mask: not-a-number, the highest id there is, white pixels."""
    parts = {}
    for name, part in inputs._asdict().items():
        mask = inputs.mask.reshape(*inputs.mask.shape, *[1] * (part.dim() - 2)).expand_as(part)
        filler = junk if part.is_floating_point() else part.max()
        parts[name] = inputs.mask if name == "mask" else part.masked_fill(~mask, filler)
    assert not inputs.mask.all(), "nothing is behind the mask"
    return type(inputs)(**parts)


def moved(module: nn.Module) -> nn.Module:
    """Move weights off their start, where some are zero by design and let no gradient through."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def readout(tensor: Tensor) -> Tensor:
    """One number that every entry has a part in."""
    return (tensor * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))).sum()


def assert_gradients_reach(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} takes no part"
            assert parameter.grad.isfinite().all(), f"{name} has no finite gradient"
            assert parameter.grad.abs().sum() > 0, f"{name} gets no gradient"


def gradients(module: nn.Module, value: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    value.backward()
    return {name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None}


def assert_same_gradients(module: nn.Module, one: Tensor, other: Tensor) -> None:
    first, second = gradients(module, one), gradients(module, other)
    assert first.keys() == second.keys()
    assert first
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)


def judge(vectors: Tensor) -> Tensor:
    """Stand in for the loss of the head's answers: some number a vector."""
    return (vectors * torch.randn(vectors.shape[-1], generator=torch.Generator().manual_seed(1))).sum(-1).square()


def everything(fused: Fused) -> Tensor:
    """One number that views, weights and the fusion's own losses have a part in."""
    return readout(fused.views) + readout(fused.weights) + sum(fused.losses(judge).values(), torch.zeros(()))

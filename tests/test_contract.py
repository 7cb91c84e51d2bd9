"""Every catalogued component keeps the contract of the design; a new one is tested by being in its dict."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoders import ENCODERS
from encoders.preprocessor import Preparation, Preprocessor, preparation
from encoders.records import CodeEvents, Edge, Image, Knowledge, Note, Record
from encoders.weights import without_pretrained
from experiments.data.pack import pack_records
from experiments.feeding import build_model
from fusion import FUSIONS, Fused, FusionModel, Tokens, UsageError
from fusion.component import Architecture, Choice, Spec, build, hyperparameters
from fusion.tokens import clean, present

DIM = 8
LANGUAGE = "<the tiny language model>"  # stands for a folder that the tests make
OPTIONS: dict[str, dict[str, Any]] = {
    "codes": {"max_events": 16, "min_count": 1},
    "images": {"size": 64},
    "notes": {"min_count": 1},
}
SMALL: dict[str, dict[str, Any]] = {  # where the default is large, wants a download or never comes to its limit
    "codes.gru": {"steps": 8},
    "notes.pretrained": {"model": LANGUAGE, "stride": 4},
    "notes.lora": {"model": LANGUAGE, "stride": 4},
    "graph.gbert": {"features": "descriptions"},  # what is known about nodes takes turns
    "graph.hap": {"features": "molecules"},
    "graph.personal": {"pretraining": "transe"},
    "graph.rgcn": {"pretraining": "distmult"},
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
        ends = limits.options if isinstance(limits, Choice) else (limits.low, limits.high)
        if name == "model":
            continue  # a search among named models needs their weights
        yield from ({name: end} for end in ends)
        lows[name], highs[name] = ends[0], ends[-1]
    yield from (lows, highs)


EVERY = {
    f"{kind}.{name}": each for kind, names in {**ENCODERS, "fusion": FUSIONS}.items() for name, each in names.items()
}
each_component = pytest.mark.parametrize("component", EVERY.values(), ids=EVERY)
each_encoder = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in all_cases()])
each_fusion = pytest.mark.parametrize("name", list(FUSIONS))
each_junk = pytest.mark.parametrize("junk", [float("nan"), float("inf")], ids=str)


# --- patients made by hand: every pattern of missing ---


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
HELD_OUT = Record(
    events(("HELDOUT//code", 1, 7.5)), (Note("heldoutword heldoutword", 1.0, "heldoutkind"),)
)  # a patient no preprocessor is fitted on


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
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("language")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fever", "cough", "pain", "chest", "no", "the", "patient", "##s"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


class World:
    """The patients, and everything prepared from them once."""

    def __init__(self, folder: Path, language: str) -> None:
        self.records, self.language = make_records(folder), language
        self._packs: dict[tuple[str, str], Any] = {}

    def spec(self, case: Case, **params: Any) -> Spec:
        chosen = {**case.params, **params}
        return Spec(case.name, {k: self.language if v == LANGUAGE else v for k, v in chosen.items()})

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


# --- what every component is ---


@each_component
def test_documents_itself(component: type) -> None:
    text = inspect.getdoc(component) or ""
    assert text.split("\n")[0].rstrip().endswith((".", ";")), text.split("\n")[0]
    for section in ("Shape:", "Reference:", *(["Missing:"] if component in FUSIONS.values() else [])):
        assert f"\n{section}\n" in text, f"no {section} in the docstring"


@each_component
def test_signature_is_two_places_and_described_hyperparameters(component: type) -> None:
    places = [p for p in inspect.signature(component).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    wanted = ["modalities", "dim"] if component in FUSIONS.values() else ["preprocessor", "dim"]
    assert [place.name for place in places] == wanted
    for parameter in hyperparameters(component).values():
        assert parameter.default is not inspect.Parameter.empty, f"{parameter.name} has no default"
        assert parameter.type in (int, float, bool, str), f"{parameter.name} has no plain type"


@each_component
def test_default_lies_in_its_range(component: type) -> None:
    for parameter in hyperparameters(component).values():
        limits = parameter.range
        if isinstance(limits, Choice):
            assert parameter.default in limits.options, parameter
        elif limits is not None:
            assert limits.low <= parameter.default <= limits.high, parameter


@each_component
def test_unknown_hyperparameter_names_the_nearest(component: type) -> None:
    longest = max(hyperparameters(component), key=len)
    with pytest.raises(UsageError) as raised:
        build({"it": component}, Spec("it", {longest + "x": 1}), where="here")
    assert str(raised.value) == f"here: unknown hyperparameter of it '{longest}x'; did you mean '{longest}'?"


# --- preprocessors ---


@each_encoder
def test_preprocessor_follows_the_protocol(world: World, case: Case) -> None:
    preprocessor = world.prepared(case)[0]
    assert isinstance(preprocessor, Preprocessor)
    columns = preprocessor.columns()
    for record, has in zip(world.records, PATTERNS, strict=True):
        encoded = preprocessor.encode(record)
        wanted = {"codes": has[0], "graph": has[0], "notes": has[1], "images": has[2]}[case.modality]
        assert (encoded is not None) is wanted
        if encoded is None:
            continue
        assert encoded.keys() == columns.keys()
        assert len({len(column) for column in encoded.values()}) == 1
        for name, (kind, shape) in columns.items():
            assert encoded[name].dtype == kind
            assert encoded[name].shape[1:] == shape


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in all_cases() if "codes." in name])
def test_preprocessor_of_codes_names_the_codes_it_knows(world: World, case: Case) -> None:
    known = set(world.prepared(case)[0].codes)
    assert {"ICD//I10", "LAB//glucose"} <= known
    assert "HELDOUT//code" not in known


@each_encoder
def test_preprocessor_survives_json(world: World, case: Case) -> None:
    preprocessor = world.prepared(case)[0]
    data = preprocessor.to_dict()
    again = type(preprocessor).from_dict(json.loads(json.dumps(data, allow_nan=False)))
    assert again == preprocessor
    assert again.to_dict() == data
    for record in (*world.records, HELD_OUT):
        first, second = preprocessor.encode(record), again.encode(record)
        assert (first is None) is (second is None)
        for name in first or {}:
            np.testing.assert_array_equal(first[name], second[name])


@each_encoder
def test_preprocessor_learns_from_the_given_records_only(world: World, case: Case) -> None:
    before = world.fit(case, world.records)
    world.fit(case, [*world.records, HELD_OUT])  # what another fit saw must not stay anywhere
    after = world.fit(case, world.records)
    assert after == before
    assert "heldout" not in json.dumps(after.to_dict()).lower()


@each_encoder
def test_training_records_without_the_modality_still_give_an_encoder(world: World, case: Case) -> None:
    preprocessor = world.fit(case, [Record()] * 3)
    packed, index = pack_records(preprocessor, world.records)
    torch.manual_seed(0)
    encoder = build(ENCODERS[case.modality], world.spec(case), preprocessor, DIM).eval()
    assert encoder(preprocessor.collate(packed, index)).values.isfinite().all()


# --- encoders ---


@each_encoder
def test_encoder_gives_tokens(world: World, case: Case) -> None:
    inputs = world.inputs(case)
    tokens = world.encoder(case)(inputs)
    assert isinstance(tokens, Tokens)
    assert tokens.values.shape == (len(PATTERNS), tokens.mask.shape[1], DIM)
    assert tokens.mask.shape[0] == len(PATTERNS)
    assert (tokens.values.dtype, tokens.mask.dtype) == (torch.float32, torch.bool)
    assert tokens.values.isfinite().all()
    assert present(tokens.mask).equal(present(inputs.mask)), "a patient is absent in one and present in the other"


@each_encoder
def test_encoder_of_nobody(world: World, case: Case) -> None:
    tokens = world.encoder(case)(world.inputs(case, [NOBODY, NOBODY]))
    assert tokens.mask.shape[0] == 2
    assert tokens.mask.shape[1] >= 1
    assert not tokens.mask.any()
    assert tokens.values.isfinite().all()


@each_junk
@each_encoder
def test_encoder_ignores_what_is_behind_the_mask(world: World, case: Case, junk: float) -> None:
    encoder, inputs = world.encoder(case), world.inputs(case)
    plain, dirty = encoder(inputs), encoder(with_junk(inputs, junk))
    assert dirty.mask.equal(plain.mask)
    torch.testing.assert_close(clean(dirty).values, clean(plain).values)


@each_junk
@each_encoder
def test_encoder_learns_nothing_from_behind_the_mask(world: World, case: Case, junk: float) -> None:
    encoder, inputs = world.encoder(case), world.inputs(case)
    plain, dirty = (readout(clean(encoder(each)).values) for each in (inputs, with_junk(inputs, junk)))
    assert_same_gradients(encoder, plain, dirty)


@each_encoder
def test_encoder_follows_the_order_of_patients(world: World, case: Case) -> None:
    encoder, order = world.encoder(case), [5, 2, 7, 0, 3, 6, 1, 4]
    straight, mixed = encoder(world.inputs(case)), encoder(world.inputs(case, order))
    assert mixed.mask.equal(straight.mask[order])
    torch.testing.assert_close(clean(mixed).values, clean(straight).values[order], rtol=1e-4, atol=1e-5)


@each_encoder
def test_encoder_of_one_patient_equals_the_row_of_a_batch(world: World, case: Case) -> None:
    encoder, rows = world.encoder(case), world.present_rows(case)
    batch = encoder(world.inputs(case))
    assert len(rows) == 4
    for row in rows:
        alone = encoder(world.inputs(case, [row]))
        torch.testing.assert_close(alone.values[alone.mask], batch.values[row][batch.mask[row]], rtol=1e-4, atol=1e-5)


@each_encoder
def test_encoder_tells_patients_apart(world: World, case: Case) -> None:
    inputs = world.inputs(case, world.present_rows(case))
    tokens = clean(world.encoder(case)(inputs))
    summaries = tokens.values.sum(1) / tokens.mask.sum(1, keepdim=True)
    assert torch.pdist(summaries).min() > 1e-4


@each_encoder
def test_gradients_reach_every_parameter_of_an_encoder(world: World, case: Case) -> None:
    encoder = moved(world.encoder(case)).train()
    readout(clean(encoder(world.inputs(case))).values).backward()
    assert_gradients_reach(encoder)


@each_encoder
def test_encoder_is_saved_and_loaded(world: World, case: Case, tmp_path: Path) -> None:
    saved, inputs = world.encoder(case, seed=1), world.inputs(case)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    with without_pretrained():
        loaded = world.encoder(case, seed=2)
    assert not clean(loaded(inputs)).values.equal(clean(saved(inputs)).values)
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(inputs).values.equal(saved(inputs).values)


@each_encoder
def test_same_seed_same_encoder(world: World, case: Case) -> None:
    first, second, inputs = world.encoder(case, seed=3), world.encoder(case, seed=3), world.inputs(case)
    for name, weight in first.state_dict().items():
        assert weight.equal(second.state_dict()[name]), name
    results = []
    for encoder in (first.train(), second.train()):
        torch.manual_seed(4)  # dropout
        results.append(encoder(inputs).values)
    assert results[0].equal(results[1])


@pytest.mark.parametrize(
    ("case", "params"),
    [
        pytest.param(case, params, id="-".join([name, *(f"{k}={v}" for k, v in params.items())]))
        for name, case in all_cases()
        for params in corners(case.component)
        if not case.params.get("frozen")
    ],
)
def test_corner_of_the_search_space_of_an_encoder(world: World, case: Case, params: dict[str, Any]) -> None:
    encoder = moved(world.encoder(case, **params)).train()
    tokens = encoder(world.inputs(case))
    assert present(tokens.mask).equal(present(world.inputs(case).mask))
    assert tokens.values.shape == (len(PATTERNS), tokens.mask.shape[1], DIM)
    readout(clean(tokens).values).backward()
    assert_gradients_reach(encoder)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in all_cases() if case.params.get("frozen")]
)
def test_frozen_encoder_reads_its_cached_features(world: World, case: Case) -> None:
    encoder, inputs = world.encoder(case).train(), world.inputs(case)
    before = {name: weight.clone() for name, weight in encoder.backbone().state_dict().items()}
    features = encoder.features(inputs)
    assert not features.values.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.backbone().parameters())
    again = encoder.train().features(inputs)
    assert again.values.equal(features.values), "dropout or batch statistics are at work in a frozen backbone"
    for name, weight in encoder.backbone().state_dict().items():
        assert weight.equal(before[name]), f"{name} of a frozen backbone changed"
    encoder.eval()
    torch.testing.assert_close(clean(encoder(features)).values, clean(encoder(inputs)).values)


# --- fusions ---

NAMES = ("codes", "notes", "images")


def make_tokens(names: Sequence[str] = NAMES, times: int = 1) -> dict[str, Tokens]:
    """Tokens of patients with every pattern of missing, each so many times; masks are ragged and have holes."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for place, name in enumerate(names):
        values = torch.randn(times * len(PATTERNS), place + 2, DIM, generator=generator)
        mask = torch.rand(values.shape[:2], generator=generator) < 0.6
        has = torch.tensor([pattern[place] for pattern in PATTERNS] * times)
        mask[torch.arange(len(mask)), torch.randint(place + 2, (len(mask),), generator=generator)] = True
        found[name] = Tokens(values, mask & has.unsqueeze(1))
    return found


def make_fusion(name: str, seed: int = 0, names: Sequence[str] = NAMES, **params: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build(FUSIONS, Spec(name, params), list(names), DIM).eval()


def select(tokens: dict[str, Tokens], rows: Sequence[int]) -> dict[str, Tokens]:
    return {name: Tokens(each.values[list(rows)], each.mask[list(rows)]) for name, each in tokens.items()}


def assert_same(one: Fused, other: Fused) -> None:
    torch.testing.assert_close(one.views, other.views, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-5)


def judge(vectors: Tensor) -> Tensor:
    """Stand in for the loss of the head's answers: some number a vector."""
    return (vectors * torch.randn(vectors.shape[-1], generator=torch.Generator().manual_seed(1))).sum(-1).square()


def everything(fused: Fused) -> Tensor:
    """One number that views, weights and the fusion's own losses have a part in."""
    return readout(fused.views) + readout(fused.weights) + sum(fused.losses(judge).values(), torch.zeros(()))


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["three", "one"])
@each_fusion
def test_fusion_gives_views_and_weights(name: str, names: Sequence[str]) -> None:
    fused = make_fusion(name, names=names)(make_tokens(names))
    assert isinstance(fused, Fused)
    assert fused.views.shape in ((len(PATTERNS), 1, DIM), (len(PATTERNS), len(names), DIM))
    assert fused.weights.shape == fused.views.shape[:2]
    assert fused.views.dtype == fused.weights.dtype == torch.float32
    assert fused.views.isfinite().all()
    assert fused.weights.isfinite().all()
    assert ((fused.weights >= 0) & (fused.weights <= 1)).all()
    assert (fused.weights.sum(1) > 0).all(), "nobody's prediction may come from the nothing"


@each_junk
@each_fusion
def test_fusion_ignores_what_is_behind_the_mask(name: str, junk: float) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    dirty = {each: with_junk(tokens[each], junk) for each in tokens}
    assert_same(fusion(dirty), fusion(tokens))
    first, second = (everything(fusion(each)) for each in (tokens, dirty))
    assert_same_gradients(fusion, first, second)


@each_fusion
def test_fusion_gives_no_gradient_to_what_is_behind_the_mask(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    for each in tokens.values():
        each.values.requires_grad_()
    fused = fusion(tokens)
    everything(fused).backward()
    for each in tokens.values():
        assert each.values.grad is not None
        assert (each.values.grad[~each.mask] == 0).all()
        assert (each.values.grad[each.mask].abs().sum(-1) > 0).all(), "a real token has no influence"


@each_fusion
def test_fusion_follows_the_order_of_patients(name: str) -> None:
    fusion, tokens, order = make_fusion(name), make_tokens(), [5, 2, 7, 0, 3, 6, 1, 4]
    straight = fusion(tokens)
    assert_same(fusion(select(tokens, order)), Fused(straight.views[order], straight.weights[order]))


@each_fusion
def test_fusion_of_one_patient_equals_the_row_of_a_batch(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    batch = fusion(tokens)
    for row in range(len(PATTERNS)):
        assert_same(fusion(select(tokens, [row])), Fused(batch.views[row : row + 1], batch.weights[row : row + 1]))


@each_fusion
def test_more_padding_changes_no_fusion(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    longer = {
        each: Tokens(nn.functional.pad(t.values, (0, 0, 0, 3), value=7.0), nn.functional.pad(t.mask, (0, 3)))
        for each, t in tokens.items()
    }
    assert_same(fusion(longer), fusion(tokens))


@each_fusion
def test_fusion_finds_modalities_by_name(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    other = {"unasked": tokens["notes"], **{each: tokens[each] for each in reversed(NAMES)}}
    assert_same(fusion(other), fusion(tokens))


@each_fusion
def test_gradients_reach_every_parameter_of_a_fusion(name: str) -> None:
    fusion = moved(make_fusion(name)).train()
    everything(fusion(make_tokens(times=32))).backward()  # so many, that even the rarest expert is asked
    assert_gradients_reach(fusion)


@each_fusion
def test_losses_of_a_fusion_are_named_numbers(name: str) -> None:
    fusion, nobody = make_fusion(name).train(), select(make_tokens(), [NOBODY, NOBODY])
    for tokens in (make_tokens(), nobody):
        losses = fusion(tokens).losses(judge)
        for kind, value in losses.items():
            assert value.shape == (), kind
            assert value.isfinite(), kind
            assert f"`{kind}`" in (inspect.getdoc(FUSIONS[name]) or ""), f"{kind} is not documented"
    everything(fusion(nobody)).backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


@each_fusion
def test_fusion_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    saved, loaded, tokens = make_fusion(name, seed=1), make_fusion(name, seed=2), make_tokens()
    assert not loaded(tokens).views.equal(saved(tokens).views)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(tokens).views.equal(saved(tokens).views)
    assert loaded(tokens).weights.equal(saved(tokens).weights)


@each_fusion
def test_same_seed_same_fusion(name: str) -> None:
    first, second = make_fusion(name, seed=3).train(), make_fusion(name, seed=3).train()
    results = []
    for fusion in (first, second):
        torch.manual_seed(4)  # dropout
        results.append(fusion(make_tokens()).views)
    assert results[0].equal(results[1])


@pytest.mark.parametrize(("name", "params"), [(name, each) for name in FUSIONS for each in corners(FUSIONS[name])])
def test_corner_of_the_search_space_of_a_fusion(name: str, params: dict[str, Any]) -> None:
    fusion = moved(make_fusion(name, **params)).train()
    everything(fusion(make_tokens(times=32))).backward()  # so many, that even the rarest expert is asked
    assert_gradients_reach(fusion)


# --- whole models ---

WIDEST = max(len(FUSIONS), *(len(catalogue) for catalogue in ENCODERS.values()))
MIXES = [{modality: list(names)[i % len(names)] for modality, names in ENCODERS.items()} for i in range(WIDEST)]
each_model = pytest.mark.parametrize(  # every fusion and every encoder at least once
    ("fusion", "mix"),
    [
        pytest.param(
            list(FUSIONS)[i % len(FUSIONS)], mix, id=f"{list(FUSIONS)[i % len(FUSIONS)]}-{'-'.join(mix.values())}"
        )
        for i, mix in enumerate(MIXES)
    ],
)


def whole(world: World, fusion: str, mix: dict[str, str], modality_dropout: float = 0.0) -> tuple[FusionModel, Any]:
    """A model of all modalities, and a function from rows to its inputs."""
    cases = {m: Case(m, name, SMALL.get(f"{m}.{name}", {})) for m, name in mix.items()}
    architecture = Architecture({m: world.spec(case) for m, case in cases.items()}, Spec(fusion), DIM)
    torch.manual_seed(0)
    preprocessors = {m: world.prepared(case)[0] for m, case in cases.items()}
    model = build_model(architecture, preprocessors, outputs=3, modality_dropout=modality_dropout).eval()
    return model, lambda rows: {m: world.inputs(case, rows) for m, case in cases.items()}


EVERYONE = range(len(PATTERNS))


@each_model
def test_model_predicts_for_everyone(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    logits = model(inputs(EVERYONE))
    assert logits.shape == (len(PATTERNS), 3)
    assert logits.isfinite().all()
    for row in EVERYONE:
        torch.testing.assert_close(model(inputs([row]))[0], logits[row], rtol=1e-3, atol=1e-4)
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    torch.testing.assert_close(model(inputs(order)), logits[order], rtol=1e-3, atol=1e-4)
    nobody = model(inputs([NOBODY, NOBODY]))
    torch.testing.assert_close(nobody, logits[[NOBODY, NOBODY]], rtol=1e-4, atol=1e-5)


@each_model
def test_model_of_nobody_has_finite_gradients(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    readout(model.train()(inputs([NOBODY, NOBODY]))).backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert model.head.weight.grad is not None
    assert all(gradient.isfinite().all() for gradient in found)


@each_model
def test_gradients_reach_encoders_and_head_of_a_model(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix)
    fused = moved(model).train().fuse(inputs(EVERYONE))
    (readout(model.predict(fused)) + everything(fused)).backward()
    assert_gradients_reach(model.encoders)
    assert_gradients_reach(model.head)


@each_model
def test_model_in_half_precision_and_with_hidden_modalities(world: World, fusion: str, mix: dict[str, str]) -> None:
    model, inputs = whole(world, fusion, mix, modality_dropout=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.train()(inputs(EVERYONE))
    readout(logits.float()).backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@each_model
def test_model_weights_are_saved_and_loaded(world: World, fusion: str, mix: dict[str, str], tmp_path: Path) -> None:
    saved, inputs = whole(world, fusion, mix)
    for parameter in saved.parameters():
        nn.init.normal_(parameter, std=0.1)
    with without_pretrained():
        loaded, _ = whole(world, fusion, mix)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(inputs(EVERYONE)).equal(saved(inputs(EVERYONE)))

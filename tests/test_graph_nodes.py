"""What is known of nodes: words, molecules, facts before patients."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from toy_graphs import FAMILY, fitted, patients

from encoders.graph import (
    GRAPH,
    CodeGraph,
    GraphAncestors,
    GraphInputs,
)
from encoders.graph.features import FEATURES, NodeFeatures
from encoders.graph.molecules import substructures
from encoders.graph.table import NodeTable
from encoders.graph.triples import PRETRAINING, NodeVectors, TripleModel, train_triples
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Edge, Knowledge, Record
from experiments.data.folder import Dataset
from fusion import UsageError
from fusion.component import Spec, build

MADE_HERE = [name for name in GRAPH if name != "artefact"]  # which is one of the others, made before
DRUGS = {
    "metformin": "CN(C)C(=N)NC(=N)N",
    "phenformin": "NC(=N)NC(=N)NCCc1ccccc1",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
}
RICH = Knowledge(
    (*(Edge(drug, "is_a", "drugs") for drug in DRUGS), Edge("flu", "is_a", "ills"), Edge("aspirin", "treats", "flu")),
    {"flu": "acute infection", "ills": "any infection", "aspirin": "acid pill", "paracetamol": "pill"},
    DRUGS,
)


# --- what is known about nodes ---


def test_words_of_descriptions_are_those_of_several_nodes() -> None:
    found = NodeFeatures.fit("descriptions", ["flu", "ills", "aspirin", "paracetamol"], RICH)
    assert found.names == ("infection", "pill")
    assert found.rows == ((0,), (0,), (1,), (1,))
    bare = NodeFeatures.fit("descriptions", ["ICD//E11", "ICD//E12"], Knowledge())
    assert bare.names == ("e", "icd"), "without a description, the spelling says where a code belongs"


def test_an_unseen_leaf_has_a_vector_by_its_description() -> None:
    graph = fitted(RICH, features="descriptions")
    table = NodeTable(graph, 4, features="descriptions")
    aspirin, paracetamol, metformin = (graph.number[name] for name in ("aspirin", "paracetamol", "metformin"))
    found = table(torch.tensor([[aspirin], [paracetamol]]))
    assert table.described is not None
    word = 1 + graph.features.names.index("pill")
    for each in found[:, 0]:
        torch.testing.assert_close(each, table.described.weight[word])
    assert table.vectors[aspirin].eq(0).all()
    torch.testing.assert_close(table.everything()[[aspirin, paracetamol]], found[:, 0])
    assert NodeTable(graph, 4)(torch.tensor([metformin])).eq(0).all(), "features are added where they are asked for"


def test_molecules_share_substructures() -> None:
    graph = fitted(RICH, features="molecules")
    row = {name: set(graph.features.rows[graph.number[name]]) for name in (*DRUGS, "flu")}
    assert row["flu"] == set()
    alike = len(row["metformin"] & row["phenformin"])
    assert alike > len(row["metformin"] & row["aspirin"]), "both are biguanides"
    assert len(row["aspirin"] & row["paracetamol"]) > len(row["aspirin"] & row["metformin"])
    numbers = [number for each in row.values() for number in each]
    assert all(numbers.count(number) > 1 for number in numbers)


def test_substructures_by_hand() -> None:
    water, again, methane = (substructures([text])[text] for text in ("O", "[OH2]", "C"))
    assert len(water) == len(methane) == 1, "one atom, nothing around it"
    assert water == again != methane
    # CH3, CH2 and OH, each alone and with its bonds; two bonds away there is nothing that one bond has not shown
    assert len(substructures(["CCO"])["CCO"]) == 6
    assert substructures(["OCC"])["OCC"] == substructures(["CCO"])["CCO"], "however the molecule is written"


def test_unreadable_molecule_is_skipped_and_counted(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    broken = Knowledge(RICH.edges, {}, {**DRUGS, "aspirin": "C1CC(", "flu": "", "nowhere": "nonsense"})
    with caplog.at_level(logging.WARNING):
        graph = fitted(broken, features="molecules")
    assert caplog.messages == ["1 of 4 SMILES cannot be read and were skipped"]
    assert graph.features.rows[graph.number["aspirin"]] == ()
    assert capfd.readouterr().err == "", "the parser's own lines"


@pytest.fixture
def without_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rdkit", "rdkit.Chem", "rdkit.Chem.rdFingerprintGenerator", "rdkit.rdBase"):
        monkeypatch.setitem(sys.modules, name, None)


def test_molecules_without_rdkit_say_how_to_get_it(without_rdkit: None) -> None:
    with pytest.raises(UsageError) as raised:
        fitted(RICH, features="molecules")
    assert str(raised.value) == (
        "features 'molecules' needs rdkit; install it with: pip install 'ehrfusion[molecules]'"
    )
    assert fitted(FAMILY, features="molecules").features.names == (), "without molecules there is nothing to read"


def test_prediction_needs_no_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = json.dumps(fitted(RICH, features="molecules").to_dict())
    monkeypatch.setitem(sys.modules, "rdkit", None)
    graph = CodeGraph.from_dict(json.loads(saved))
    assert NodeTable(graph, 4, features="molecules")(torch.tensor([graph.number["aspirin"]])).abs().sum() > 0


@pytest.mark.parametrize("options", [{"features": "description"}, {"pretraining": "trans"}])
def test_unknown_choice_names_the_nearest(options: dict[str, str]) -> None:
    (name, value), nearest = *options.items(), {"features": "descriptions", "pretraining": "transe"}
    with pytest.raises(UsageError) as raised:
        fitted(FAMILY, **options)
    assert str(raised.value) == f"{name}: unknown value '{value}'; did you mean '{nearest[name]}'?"


def test_encoder_that_wants_what_the_graph_was_not_fitted_with_says_so(caplog: pytest.LogCaptureFixture) -> None:
    GraphAncestors(fitted(RICH), 4, features="molecules", pretraining="transe")
    assert caplog.messages == [
        "features 'molecules' adds nothing: the graph was fitted with 'none'",
        "pretraining 'transe' adds nothing: the graph was fitted with 'none'",
    ]


# --- facts before patients ---


def planted() -> tuple[Tensor, Tensor]:
    """Ten groups of drugs treat ten groups of diseases, and which facts are held back."""
    facts = [(10 * g + i, 100 + 10 * g + j, 0) for g, i, j in itertools.product(range(10), repeat=3)]
    mixed = torch.tensor(facts)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    return mixed[:600], mixed[600:]


def mean_reciprocal_rank(model: TripleModel, facts: Tensor, nodes: int) -> float:
    every = facts.unsqueeze(1).repeat(1, nodes, 1)
    every[:, :, 1] = torch.arange(nodes)
    scores = model.score(every)
    own = scores.gather(1, facts[:, 1:2])
    return float((1 / (1 + (scores > own).sum(1))).mean())


@pytest.mark.parametrize("kind", PRETRAINING[1:])
def test_held_back_facts_rank_above_chance(kind: str) -> None:
    known, held_back = planted()
    chance = sum(1 / rank for rank in range(1, 201)) / 200
    trained = mean_reciprocal_rank(train_triples(kind, known, 200, 1), held_back, 200)
    untrained = mean_reciprocal_rank(train_triples(kind, known, 200, 1, epochs=0), held_back, 200)
    assert trained > 3 * chance, (trained, chance)
    assert untrained < 2 * chance, (untrained, chance)


def test_scores_of_facts_by_hand() -> None:
    nodes, links = torch.tensor([[1.0, 2.0], [4.0, 6.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    facts = torch.tensor([[0, 1, 0], [0, 1, 1]])
    assert TripleModel("transe", nodes, links).score(facts).tolist() == [-5.0, 0.0]
    assert TripleModel("distmult", nodes, links).score(facts).tolist() == [0.0, 3 * 4.0 + 4 * 12.0]


@pytest.mark.parametrize("kind", PRETRAINING[1:])
def test_pretraining_is_the_same_each_time_and_moves_no_other_seed(kind: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = (fitted(RICH, pretraining=kind) for _ in range(2))
    assert torch.random.get_rng_state().equal(before)
    assert one == two
    events = CodeEvents(("aspirin",), np.zeros(1, np.float32), np.full(1, np.nan, np.float32))
    assert CodeGraph.fit([Record(events)], RICH, pretraining=kind) == one, "no patient has a part in it"
    assert CodeGraph.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_pretrained_vectors_are_projected() -> None:
    graph = fitted(RICH, pretraining="transe")
    table = NodeTable(graph, 4, pretraining="transe")
    assert table.project is not None
    flu = graph.number["flu"]
    wanted = table.project.weight @ torch.tensor(graph.vectors.rows[flu])
    torch.testing.assert_close(table(torch.tensor([flu, flu]))[1], wanted)
    torch.testing.assert_close(table.everything()[flu], wanted)
    assert not table.known.requires_grad


def test_no_facts_no_pretraining() -> None:
    assert NodeVectors.fit("transe", (), 0, 0) == NodeVectors("transe")
    graph = fitted(Knowledge(), features="descriptions", pretraining="distmult")
    for encoder in (GRAPH[name] for name in MADE_HERE):
        found = encoder(graph, 4, features="descriptions", pretraining="distmult")(patients([]))
        assert found.values.isfinite().all()


@pytest.mark.parametrize(("features", "pretraining"), list(itertools.product(FEATURES, PRETRAINING)))
@pytest.mark.parametrize("name", MADE_HERE)
def test_every_encoder_learns_from_all_that_is_known(name: str, features: str, pretraining: str) -> None:
    spec = Spec(name, {"features": features, "pretraining": pretraining})
    plan = preparation(GRAPH, "graph", spec)
    assert plan.options == {"features": features, "pretraining": pretraining}
    graph = plan.preprocessor.fit([], RICH, **plan.options)
    torch.manual_seed(0)
    encoder = build(GRAPH, spec, graph, 8)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokens = encoder(patients([(i, 9.0 - i) for i in range(graph.size)], [], [(1, 2.0)]))
    (tokens.values * torch.randn_like(tokens.values))[tokens.mask].sum().backward()
    table = {id(part): part for part in encoder.modules() if isinstance(part, NodeTable)}
    assert len(table) == 1
    only = next(iter(table.values()))
    assert (only.described is not None, only.project is not None) == (features != "none", pretraining != "none")
    for part, parameter in encoder.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.isfinite().all(), part
        assert parameter.grad.abs().sum() > 0, part


@pytest.mark.parametrize("name", MADE_HERE)
def test_every_encoder_runs_under_deterministic_algorithms(name: str) -> None:
    graph = fitted(RICH, features="descriptions", pretraining="distmult")
    encoder = GRAPH[name](graph, 8, features="descriptions", pretraining="distmult", dropout=0.0)
    inputs = patients([(0, 3.0), (4, 1.0)], [(1, 2.0)])
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for _ in range(2):
            encoder.zero_grad()
            encoder(inputs).values.square().sum().backward()
            results.append([parameter.grad.clone() for parameter in encoder.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(one.equal(two) for one, two in zip(*results, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MADE_HERE)
def test_every_encoder_gives_the_same_on_a_gpu(name: str) -> None:
    graph = fitted(RICH, features="descriptions", pretraining="distmult")
    encoder = GRAPH[name](graph, 8, features="descriptions", pretraining="distmult").eval()
    inputs = patients([(0, 3.0), (4, 1.0)], [(1, 2.0)])
    here = encoder(inputs).values
    there = encoder.cuda()(GraphInputs(*(part.cuda() for part in inputs))).values
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


# --- molecules in a data folder ---


def write_codes(folder: Path, smiles: pl.Series) -> Dataset:
    (folder / "metadata").mkdir()
    table = pl.DataFrame({"code": ["a", "b"], "description": ["one", None], "smiles": smiles})
    table.write_parquet(folder / "metadata" / "codes.parquet")
    return Dataset(folder)


def test_molecules_are_read_from_the_table_of_codes(tmp_path: Path) -> None:
    assert write_codes(tmp_path, pl.Series(["CCO", None])).knowledge() == Knowledge((), {"a": "one"}, {"a": "CCO"})


def test_a_column_without_any_molecule_is_none(tmp_path: Path) -> None:
    assert write_codes(tmp_path, pl.Series([None, None])).knowledge().smiles == {}


def test_molecules_of_another_type_are_refused(tmp_path: Path) -> None:
    dataset = write_codes(tmp_path, pl.Series([1, 2]))
    with pytest.raises(UsageError) as raised:
        dataset.knowledge()
    path = tmp_path / "metadata" / "codes.parquet"
    assert str(raised.value) == f"{path}: column 'smiles' must be string; got Int64"

"""AutoFM: the size of its space, its operations by hand, and one network that holds every architecture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor

from encoders import ENCODERS
from fusion import FUSIONS, AutoFMFusion, Spec, Tokens, UsageError, find
from fusion.autofm import AutoFMSupernet, complete, gene_options
from fusion.autofm.genes import NODES, sources
from fusion.autofm.operations import AttentionMerge, AttentionStep, LayersMerge, MixStep, SumMerge
from search.space import Space

FOUR = ("codes", "notes", "images", "graph")
VECTORS = "images graph"


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    return


def tokens(*lengths: tuple[int, ...], dim: int = 8) -> dict[str, Tokens]:
    """Random tokens of four modalities; a length a patient, 0 for who lacks the modality."""
    found = {}
    for name, each in zip(FOUR, lengths, strict=False):
        mask = torch.arange(max(*each, 1))[None] < torch.tensor(each)[:, None]
        found[name] = Tokens(torch.randn(len(each), mask.shape[1], dim), mask)
    return found


EVERYBODY = ((4, 2, 1), (3, 5, 2), (1, 1, 1), (2, 1, 3))
SOME = ((4, 0, 1, 0), (3, 5, 0, 0), (1, 0, 1, 0), (0, 0, 3, 0))


def random_genes(seed: int, modalities: tuple[str, ...] = FOUR) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        gene: choices[int(torch.randint(len(choices), (), generator=generator))]
        for gene, choices in gene_options(modalities, VECTORS).items()
    }


def test_the_space_has_the_papers_size() -> None:
    options = gene_options(FOUR, VECTORS)
    assert len(options) == 26
    assert math.prod(len(each) for each in options.values()) == 716_636_160_000
    assert options["images_1"] == ("identity", "ffn", "attend_codes", "attend_notes", "mix_graph")
    assert options["codes_2"] == ("identity", "conv", "attention", "rnn", "ffn", "attend_notes")
    assert sources(FOUR, 3) == [*FOUR, "node1", "node2"]


@pytest.mark.parametrize(("count", "genes"), [(1, 11), (2, 16), (3, 21), (5, 31)])
def test_any_number_of_modalities_has_genes(count: int, genes: int) -> None:
    names = (*FOUR, "waves")[:count]
    assert len(gene_options(names, VECTORS)) == genes  # two steps and three edges a modality, three edges, three merges


def test_a_node_without_inputs_takes_everything() -> None:
    nothing = {f"node2_{source}": False for source in sources(FOUR, 2)}
    found = complete(nothing, FOUR, VECTORS)
    assert all(found[f"node2_{source}"] for source in sources(FOUR, 2))
    assert not complete({**nothing, "node2_notes": True}, FOUR, VECTORS)["node2_codes"]


@pytest.mark.parametrize(
    ("genes", "text"),
    [
        ({"code_1": "ffn"}, "autofm: unknown gene 'code_1'; did you mean 'codes_1'?"),
        ({"codes_1": "mix_graph"}, "autofm: gene 'codes_1' must be one of identity, conv, attention, rnn, ffn, "
         "attend_notes; got 'mix_graph'"),
        ({"node1_codes": 1}, "autofm: gene 'node1_codes' must be one of True, False; got 1"),
        ({"node1": "max"}, "autofm: gene 'node1' must be one of sum, att, mlp; got 'max'"),
    ],
)  # fmt: skip
def test_wrong_genes_are_one_line(genes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        AutoFMFusion(FOUR, 8, genes=genes)
    assert str(raised.value) == text


def test_genes_are_a_mapping() -> None:
    with pytest.raises(UsageError, match=r"^fusion: autofm.genes must be Mapping or null; got 'ffn'$"):
        find(FUSIONS, Spec("autofm", {"genes": "ffn"}), "fusion")


# --- merges and operations by hand ---


def rows(*values: float) -> Tensor:
    return torch.tensor([[[value, -value] for value in values]])


@torch.no_grad()
def test_merges_by_hand() -> None:
    shares = torch.tensor([[1.0, 0.0, 1.0]])
    values = rows(3.0, 100.0, 1.0)
    assert SumMerge(2)(values, shares).tolist() == [pytest.approx([1.0, -1.0], abs=1e-4)]
    attention = AttentionMerge(2)
    attention.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
    attention.norm = torch.nn.Identity()  # type: ignore[assignment]
    weight = 1 / (1 + math.exp(-2.0))  # of 3 beside 1; what has no share has no weight, whatever its score
    wanted = 3 * weight + 1 * (1 - weight)
    assert attention(values, shares).tolist() == [pytest.approx([wanted, -wanted])]
    assert attention(values, torch.zeros(1, 3)).tolist() == [[0.0, 0.0]]
    halved = attention(values, torch.tensor([[1.0, 0.0, 0.5]]))
    weight = math.exp(3.0) / (math.exp(3.0) + 0.5 * math.exp(1.0))
    assert halved[0, 0].item() == pytest.approx(3 * weight + 1 * (1 - weight))
    assert LayersMerge(2)(values, shares).equal(LayersMerge(2)(values, shares)) is False, "a merge has its own weights"


def test_interactions_read_the_other_modality_only() -> None:
    embedded = tokens(*EVERYBODY)
    for step, other in ((AttentionStep(8, 2, 0.0, "notes"), "notes"), (MixStep(8, 0.0, "graph"), "graph")):
        own = embedded["images"]._replace(values=embedded["images"].values[:, :1], mask=embedded["images"].mask[:, :1])
        there = {name: Tokens(each.values[:, :1], each.mask[:, :1]) for name, each in embedded.items()}
        before = step(own, there)
        for name in FOUR:
            changed = {**there, name: there[name]._replace(values=there[name].values + 1)}
            assert step(own, changed).equal(before) is (name != other)


# --- one architecture, all architectures ---


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_the_network_of_all_holds_every_architecture(seed: int) -> None:
    genes = complete(random_genes(seed), FOUR, VECTORS)
    supernet = AutoFMSupernet(FOUR, 8).eval()
    one = AutoFMFusion(FOUR, 8, genes=genes).eval()
    one.load_state_dict({name: each for name, each in supernet.state_dict().items() if name in one.state_dict()})
    given = tokens(*SOME)
    supernet.path = genes
    torch.testing.assert_close(supernet(given).views, one(given).views)
    supernet.path = None
    for gene, choices in supernet.options.items():  # shares all but decided give all but the same
        supernet.alpha[gene] = torch.tensor([30.0 if choice == genes[gene] else 0.0 for choice in choices])
    assert supernet.genes() == genes
    torch.testing.assert_close(supernet(given).views, one(given).views, rtol=1e-3, atol=1e-4)
    for gene, choices in supernet.options.items():
        for choice in choices:
            if choice != genes[gene]:
                supernet.remove(gene, choice)
    assert supernet.undecided() == []
    torch.testing.assert_close(supernet(given).views, one(given).views)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(6))
def test_what_a_patient_lacks_changes_nothing(seed: int) -> None:
    fusion = AutoFMFusion(FOUR, 8, genes=random_genes(seed)).eval()
    given = tokens(*SOME)
    junk = {name: Tokens(each.values.masked_fill(~each.mask[..., None], torch.nan), each.mask)
            for name, each in given.items()}  # fmt: skip
    found = fusion(junk).views
    assert found.isfinite().all()
    torch.testing.assert_close(found, fusion(given).views)
    for row in range(4):
        alone = {name: Tokens(each.values[row : row + 1], each.mask[row : row + 1]) for name, each in given.items()}
        torch.testing.assert_close(fusion(alone).views[0], found[row])
    assert found[3, 0].equal(fusion.body.empty)


def test_the_last_input_of_a_node_stays() -> None:
    supernet = AutoFMSupernet(FOUR[:2], 8)
    assert supernet.removable("node1_codes") == [True, False]
    supernet.remove("node1_codes", True)
    assert supernet.removable("node1_notes") == [False]
    with supernet.without("node1_notes", False):
        assert supernet.left["node1_notes"] == [True]
    assert supernet.left["node1_notes"] == [True, False]


def test_entropy_and_diversity_by_hand() -> None:
    supernet = AutoFMSupernet(FOUR, 8)
    assert supernet.entropy() == pytest.approx(1.0)
    even = NODES * NODES * math.log(2.0)
    assert float(supernet.diversity()) == pytest.approx(even, rel=1e-3)
    for name in FOUR:
        for node in range(1, NODES + 1):
            supernet.alpha[f"node{node}_{name}"] = torch.tensor([20.0, 0.0])
    assert float(supernet.diversity()) < 1e-3, "nodes that all take everything, and are sure of it"
    supernet.alpha["node1_codes"] = torch.tensor([0.0, 20.0])
    assert float(supernet.diversity()) > 3.0, "a node that takes something else"
    assert supernet.entropy() < 0.7


# --- in a search ---


class Drawn:
    """Gives the same numbers as a random search of Optuna would, and writes down what was asked."""

    def __init__(self, seed: int) -> None:
        self.trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trial, name)


def space(**fusion: Any) -> Space:
    data = {"encoders": {"codes": ["bag", "none"], "notes": "bag", "graph": ["ancestors", "none"]}, "dim": 16}
    return Space.from_dict({**data, "fusion": {"autofm": fusion}}, ENCODERS, FUSIONS, {})


def test_genes_are_searched_in_a_space_that_never_changes() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        candidate = space(heads=2, dropout=0.1).suggest(trial)
        assert candidate is not None
        modalities = tuple(candidate.architecture.encoders)
        genes = candidate.architecture.fusion.params["genes"]
        complete(genes, modalities, VECTORS)  # legal with those that are there
        assert set(genes) == set(gene_options(modalities, VECTORS))
        seen.add(modalities)
        study.tell(trial, 0.0)  # Optuna refuses a distribution that changes
    assert len(seen) == 4


def test_genes_can_be_pinned_and_narrowed() -> None:
    found = space(genes={"codes_1": "rnn", "node1": ["sum", "att"]}, dropout=0.1)
    assert found.size() == 2 * 2 * space(dropout=0.1).size() / (2 * 2) / 6 * 2 / 3
    for seed in range(20):
        candidate = found.suggest(Drawn(seed))
        assert candidate is not None
        genes = candidate.architecture.fusion.params["genes"]
        assert genes.get("codes_1", "rnn") == "rnn"
        assert genes["node1"] in ("sum", "att")
    assert Space.from_dict(found_dict(found), ENCODERS, FUSIONS, {}).fingerprint == found.fingerprint


def found_dict(found: Space) -> dict[str, Any]:
    assert found.to_dict()["fusion"]["autofm"]["genes"] == {"genes": {"codes_1": ["rnn"], "node1": ["sum", "att"]}}
    data = {"encoders": {"codes": ["bag", "none"], "notes": "bag", "graph": ["ancestors", "none"]}, "dim": 16}
    return {**data, "fusion": {"autofm": {"genes": {"codes_1": "rnn", "node1": ["sum", "att"]}, "dropout": 0.1}}}


@pytest.mark.parametrize(
    ("fusion", "text"),
    [
        ({"genes": {"nots_1": "ffn"}}, "space.fusion.autofm.genes: unknown gene 'nots_1'; did you mean 'notes_1'?"),
        ({"genes": {"notes_1": "cv"}}, "space.fusion.autofm.genes.notes_1: unknown choice 'cv'; did you mean 'conv'?"),
        ({"genes": {"notes_1": []}}, "space.fusion.autofm.genes: a gene needs at least one choice; got an empty list"),
        ({"genes": "ffn"}, "space.fusion.autofm.genes: expected a mapping of genes to a value or a list of values; got "
         "'ffn'"),
        ({"vectors": ["images", "graph"]}, "autofm.vectors decides what the genes may be, so pin one value; got "
         "Choice(options=('images', 'graph'), searched=True)"),
    ],
)  # fmt: skip
def test_mistakes_in_a_genome_are_one_line(fusion: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        space(**fusion)
    assert str(raised.value) == text

"""Molecules of drugs: graphs and groups against RDKit, and the head that scores drugs by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from toy_training import ARCHITECTURE, folder, open_labels, run  # noqa: F401 - a fixture

from encoders.molecules import GROUPS, MOLECULES, groups_of, label_molecules, parse_smiles
from encoders.molecules.head import MoleculeHead
from experiments.bundle import load_bundle, save_bundle
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.feeding import with_molecules
from experiments.stackable import Member, check_stackable
from experiments.studies import study_space
from fusion import Architecture, Spec, UsageError
from search.space import Candidate, Space

ASPIRIN, IBUPROFEN, METFORMIN = (MOLECULES[code] for code in ("B01AC06", "M01AE01", "A10BA02"))
DRUGS = [[ASPIRIN], [], [IBUPROFEN, METFORMIN], []]


def test_a_molecule_by_hand() -> None:
    found = parse_smiles("C[C@H]1C(=O)N1Cl")  # a ring of three, a branch, a stereo centre
    assert found.atoms == ("C", "C", "C", "O", "N", "Cl")
    assert set(found.bonds) == {(0, 1, "-"), (1, 2, "-"), (2, 3, "="), (2, 4, "-"), (1, 4, "-"), (4, 5, "-")}
    assert {order for *_, order in parse_smiles("c1cc[nH]c1").bonds} == {":"}
    assert parse_smiles("[Na+].[Cl-]") == (("Na", "Cl"), ())


@pytest.mark.parametrize("text", ["", "C(", "C)", "C1CC", "C=", "1CC", "Qx", "[]", "what a drug"])
def test_what_is_no_smiles_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_smiles(text)
    assert str(raised.value) == f"not readable as SMILES: '{text}'"


def test_groups_by_hand() -> None:
    assert {"carboxyl", "benzene", "hydroxyl or ether on a ring"} <= set(groups_of(ASPIRIN))
    assert groups_of(METFORMIN) == ("carbon with nitrogen", "tertiary amine", "guanidine")
    assert "sulfonamide" not in groups_of(ASPIRIN)
    assert "arylpropionic acid" in groups_of(IBUPROFEN)


def test_atoms_bonds_and_groups_are_those_of_rdkit() -> None:
    chem = pytest.importorskip("rdkit.Chem")
    parts = {name: chem.MolFromSmarts(text) for name, text in GROUPS.items()}
    found: set[str] = set()
    for code, text in MOLECULES.items():
        theirs, ours = chem.MolFromSmiles(text), parse_smiles(text)
        assert len(ours.atoms) == theirs.GetNumAtoms(), code
        assert len(ours.bonds) == theirs.GetNumBonds(), code
        assert sum(each.islower() for each in ours.atoms) == sum(a.GetIsAromatic() for a in theirs.GetAtoms()), code
        assert set(groups_of(text)) == {n for n, part in parts.items() if theirs.HasSubstructMatch(part)}, code
        found |= set(groups_of(text))
    assert len(found) > len(GROUPS) * 2 / 3, "most groups are in some drug"


def test_molecules_of_a_class_are_those_of_its_drugs() -> None:
    given = {"ATC//B01AB05": "CCO", "DRUG//something": "CCC"}
    assert label_molecules(["B01A", "B01AB", "D07A"], given) == [
        sorted(["CCO", MOLECULES["B01AC06"], MOLECULES["B01AC04"]]),
        ["CCO"],
        [],
    ]


def test_a_score_is_the_whole_times_the_groups_of_the_drug_alone() -> None:
    torch.manual_seed(0)
    head = MoleculeHead(8, 4, molecules=DRUGS)
    x = torch.randn(3, 2, 8)
    before = head(x)
    assert before.shape == (3, 2, 4)
    assert head.mask.sum(1).tolist()[1::2] == [1.0, 1.0], "a drug without a molecule is its own group"
    assert head.mask[2].sum() == len({*groups_of(IBUPROFEN), *groups_of(METFORMIN)})
    with torch.no_grad():
        head.groups.weight += (1 - head.mask) * 100  # of groups that a drug does not have
    assert torch.equal(head(x), before)


def test_every_weight_learns_and_alike_molecules_are_one_vector() -> None:
    torch.manual_seed(0)
    head = MoleculeHead(8, 4, molecules=DRUGS)
    head(torch.randn(5, 8)).square().sum().backward()
    assert all(each.grad is not None and bool(each.grad.any()) for each in head.parameters())
    twice = MoleculeHead(8, 3, molecules=[[ASPIRIN], [ASPIRIN], [METFORMIN]]).drugs()
    assert torch.equal(twice[0], twice[1])
    assert not torch.allclose(twice[0], twice[2])


def test_a_head_of_labels_without_any_molecule_still_works() -> None:
    assert MoleculeHead(8, 2, molecules=[[], []])(torch.randn(1, 8)).isfinite().all()


def test_as_many_lists_as_labels() -> None:
    with pytest.raises(UsageError, match="a list of molecules for each of 3 labels; got 0"):
        MoleculeHead(8, 3)


# --- in a run ---

MOLECULAR = Architecture(ARCHITECTURE.encoders, ARCHITECTURE.fusion, 8, Spec("molecules"))


@pytest.fixture(scope="module")
def labelled(folder: Path) -> Path:
    """Two labels that are named as drugs are."""
    for name, code in (("first", "B01AC06"), ("second", "A10A")):
        (folder / "labels" / "drugs").mkdir(exist_ok=True)
        source = folder / "labels" / "findings" / f"{name}.parquet"
        (folder / "labels" / "drugs" / f"{code}.parquet").write_bytes(source.read_bytes())
    return folder


def test_a_bundle_brings_its_molecules(labelled: Path, tmp_path: Path) -> None:
    store = open_labels(labelled, "drugs")
    fit = run(store, MOLECULAR, epochs=2)
    assert isinstance(fit.model.head, MoleculeHead)
    assert fit.model.head.molecules == [[], [ASPIRIN]]
    ready = {name: store.preprocessor(plan) for name, plan in fit.preparations.items()}
    path = save_bundle(tmp_path / "m", fit.model, MOLECULAR, store.task, ready, fit.preparations, {}, {})
    assert "- head: `molecules`\n" in (path / "card.md").read_text(encoding="utf-8")
    loaded = load_bundle(path)
    assert loaded.architecture.head == Spec("molecules", {"molecules": [[], [ASPIRIN]]})
    x = torch.randn(2, 8)
    assert torch.equal(loaded.model.head(x), fit.model.head(x))


def test_all_trials_of_a_study_have_its_head(labelled: Path) -> None:
    def space(head: str) -> Space:
        data = {"name": "t", "data": {"folder": labelled, "labels": "drugs"}, "search": {"trials": 1}}
        config = parse_config({**data, "space": {"encoders": {"codes": ["bag"]}, "fusion": "early", "head": head}})
        assert isinstance(config, StudyConfig)
        return study_space(config)

    def drawn(head: str) -> Candidate | None:
        return space(head).suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask())

    one, other = drawn("molecules"), drawn("linear")
    assert one is not None
    assert other is not None
    assert one.architecture.head == Spec("molecules")
    assert one.key != other.key
    assert other == replace(one, architecture=replace(one.architecture, head=Spec("linear")))
    assert Candidate.from_dict(one.to_dict()) == one
    assert space("molecules").fingerprint != space("linear").fingerprint
    with pytest.raises(UsageError, match="did you mean 'molecules'"):
        space("molecule")


def test_what_has_no_molecules_is_refused_in_a_line(labelled: Path) -> None:
    with pytest.raises(UsageError, match=r"no molecule of the labels first, second\.\.\.; name them by ATC codes"):
        with_molecules(MOLECULAR, open_labels(labelled, "findings"))
    with pytest.raises(UsageError, match="scores a label for each drug, a multilabel task; got a binary task"):
        with_molecules(MOLECULAR, open_labels(labelled, "outcome"))
    with pytest.raises(UsageError, match="head: 'molecules' cannot be trained together with others; can: linear"):
        check_stackable([Member(MOLECULAR, TrainingConfig(batch_order=0), 0)])


def test_an_architecture_with_a_head_is_written_and_read_back() -> None:
    assert Architecture.from_dict(MOLECULAR.to_dict()) == MOLECULAR
    assert "head" not in ARCHITECTURE.to_dict(), "what there was before is written as before"

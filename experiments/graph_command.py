"""The verb `ehrfusion data graph`: its arguments, and what it does."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any


def add_graph_verb(kinds: Any) -> None:
    """Add the verb to those of `ehrfusion data`."""
    text = "give a folder its knowledge graph from ontologies, and say how much of its codes they cover"
    graph = kinds.add_parser("graph", help=text)
    graph.add_argument("folder", type=Path)
    names = "icd9cm, icd10cm, icd10pcs, ccs, ccsr, gem (ICD-9 to ICD-10), atc, hpo; or an OBO, CSV or TSV file"
    graph.add_argument("ontologies", nargs="+", metavar="ONTOLOGY", help=names)
    columns = (
        "columns of a CSV or TSV file; A+B joins two by a colon (default: those of PrimeKG and Hetionet are known)"
    )
    graph.add_argument("--columns", type=_three, metavar="HEAD,RELATION,TAIL", help=columns)
    graph.add_argument("--names", type=_two, metavar="HEAD,TAIL", help="columns of what the nodes are called")
    whole = "keep all of the ontology, not only what the folder's codes lead to: for codes that other folders have"
    graph.add_argument("--whole", action="store_true", help=whole)
    graph.set_defaults(run="data_graph")


def data_graph(arguments: Namespace) -> int:
    """Add ontologies to a folder's graph and print the graph card."""
    from experiments.ontologies.card import CARD, add_ontologies, render
    from experiments.terminal import console, say

    card = add_ontologies(
        arguments.folder,
        arguments.ontologies,
        columns=arguments.columns,
        described=arguments.names,
        whole=arguments.whole,
    )
    console().print(render(card))
    say(f"wrote {arguments.folder / CARD}, and the graph that graph encoders read")
    return 0


def _three(text: str) -> list[str]:
    return _columns(text, 3)


def _two(text: str) -> list[str]:
    return _columns(text, 2)


def _columns(text: str, number: int) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if len(found) != number or not all(found):
        raise argparse.ArgumentTypeError(f"must be {number} columns with commas between; got '{text}'")
    return found

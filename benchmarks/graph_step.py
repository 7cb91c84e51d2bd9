"""What a training step of the graph encoders costs on one thread: python benchmarks/graph_step.py.

1. Our graph convolution against GCNConv of torch-geometric in the same encoder (a table of nodes, two residual
   layers, tokens of a batch), forward and backward: GCNConv as it comes (normalises the graph at every step), with
   `cached=True` (normalises once), and with the normalisation done by hand before.
2. The convolution alone, without table, norms and tokens.
3. One step of every graph encoder.

Runs take turns, and the median of each is compared, because the machine may have other work. GCNConv's messages are
large allocations: the first ratio is about 2 where the allocator happens to keep them and up to 4.6 where it gives them
back each time, while the second, the operator itself, hardly moves.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from encoders.graph import GRAPH, CodeGraph, GraphConvolution, GraphInputs
from encoders.graph.convolution import Convolution
from encoders.graph.passing import MessagePassing
from encoders.graph.sparse import normalised_adjacency
from encoders.graph.table import NodeTable
from encoders.records import Edge, Knowledge

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GCNConv
    from torch_geometric.nn.conv.gcn_conv import gcn_norm


def make_graph(nodes: int, edges: int) -> CodeGraph:
    """Return an ontology of five levels with random other relations, as wide as asked for."""
    dice = torch.Generator().manual_seed(0)
    facts = [Edge(f"C//{i:05d}", "is_a", f"C//{i // 8:05d}") for i in range(1, nodes)]
    for head, tail in torch.randint(nodes, (edges - len(facts), 2), generator=dice).tolist():
        facts.append(Edge(f"C//{head:05d}", ("treats", "causes")[head % 2], f"C//{tail:05d}"))
    return CodeGraph.fit([], Knowledge(tuple(facts)))


def make_inputs(graph: CodeGraph, batch: int, most: int) -> GraphInputs:
    """Return patients with a random number of nodes, up to `most`."""
    dice = torch.Generator().manual_seed(1)
    nodes = torch.randint(graph.size, (batch, most), generator=dice)
    days = torch.randint(400, (batch, most), generator=dice).float()
    return GraphInputs(nodes, days, torch.arange(most) < torch.randint(1, most + 1, (batch, 1), generator=dice))


class Passing(nn.Module):
    """Our encoder around layers of torch-geometric."""

    def __init__(self, graph: CodeGraph, dim: int, layers: list[nn.Module], *structure: Tensor) -> None:
        super().__init__()
        self.passing, self.structure = MessagePassing(NodeTable(graph, dim), dim, layers, 0.1), structure

    def forward(self, inputs: GraphInputs) -> Tensor:
        return self.passing(inputs, *self.structure).values


def timed(steps: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of forward and backward of each."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step().sum().backward()
            if turn >= 3:
                found[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in found.items()}


def report(title: str, times: Mapping[str, float]) -> None:
    """Print times and how many times the first each is."""
    print(title)
    first = next(iter(times.values()))
    for name, each in times.items():
        print(f"  {name:34s} {each:8.2f} ms {each / first:6.1f}x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--edges", type=int, default=15000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    graph, dim = make_graph(given.nodes, given.edges), given.dim
    inputs, edges = make_inputs(graph, 64, 32), graph.edge_index()
    both, weight = gcn_norm(edges, num_nodes=graph.size, add_self_loops=True)
    print(f"{graph.size} nodes, {len(graph.edges)} edges, width {dim}, torch {torch.__version__}, one thread")

    def layers(**options: bool) -> list[nn.Module]:
        return [GCNConv(dim, dim, **options) for _ in range(2)]

    ours = GraphConvolution(graph, dim)
    theirs = {
        "GCNConv, as it comes": Passing(graph, dim, layers(), edges),
        "GCNConv, cached": Passing(graph, dim, layers(cached=True), edges),
        "GCNConv, normalised by hand": Passing(graph, dim, layers(normalize=False), both, weight),
    }
    steps: dict[str, Callable[[], Tensor]] = {"gcn": lambda: ours(inputs).values}
    steps |= {name: partial(each, inputs) for name, each in theirs.items()}
    report("1. The encoder", timed(steps, given.rounds))

    adjacency, one, x = normalised_adjacency(edges, graph.size), Convolution(dim), torch.randn(graph.size, dim)
    x.requires_grad_()
    plain, cached, by_hand = GCNConv(dim, dim), GCNConv(dim, dim, cached=True), GCNConv(dim, dim, normalize=False)
    alone: dict[str, Callable[[], Tensor]] = {
        "gcn": lambda: one(x, adjacency),
        "GCNConv, as it comes": lambda: plain(x, edges),
        "GCNConv, cached": lambda: cached(x, edges),
        "GCNConv, normalised by hand": lambda: by_hand(x, both, weight),
    }
    report("2. The convolution alone", timed(alone, given.rounds))

    encoders = {name: kind(graph, dim) for name, kind in GRAPH.items()}
    every = {name: lambda each=each: each(inputs).values for name, each in encoders.items()}
    report("3. Every encoder", timed(every, given.rounds))


if __name__ == "__main__":
    main()

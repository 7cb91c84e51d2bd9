"""Encoders and preprocessors against numbers by hand: vocabularies, packing, time, graph, words, subwords, pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor, nn

from encoders import ENCODERS
from encoders.codes import CodeBag, CodeGRU, CodeInputs, CodeTransformer, CodeVocabulary
from encoders.codes.embedding import EventEmbedding
from encoders.graph import CodeGraph, GraphAncestors, GraphAttention, GraphConvolution, GraphInputs
from encoders.images import ImageConv, ImageInputs, ImagePixels, ImageTimm, ImageTorchvision
from encoders.images.backbone import standard
from encoders.images.batch import encode_real
from encoders.images.pixels import read_pixels
from encoders.notes import NoteBag, NoteInputs, NotePretrained, NoteTransformer, Subwords, Words
from encoders.notes.language import average
from encoders.notes.words import split_words
from encoders.packed import Packed
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Edge, Image, Knowledge, Note, Record, UnreadableImage
from encoders.time import TimeEncoding
from encoders.weights import fetch_pretrained, without_pretrained
from fusion import UsageError
from fusion.component import Spec

NAN = float("nan")
NOTHING = Knowledge()


def coded(*events: tuple[str, float, float]) -> Record:
    codes, days, values = zip(*events, strict=True)
    return Record(CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32)))


def noted(*notes: tuple[str, float]) -> Record:
    return Record(notes=tuple(Note(text, days, "nursing") for text, days in notes))


def inputs_of(kind: type, mask: Tensor, **parts: Any) -> Any:
    """Inputs of a modality with zeros where nothing is given."""
    found = {}
    for name in kind._fields:  # type: ignore[attr-defined]
        default = torch.zeros(mask.shape, dtype=torch.long if name in ("codes", "ids", "nodes") else torch.float32)
        found[name] = (
            mask
            if name == "mask" or (name == "has_value" and name not in parts)
            else torch.as_tensor(parts.get(name, default))
        )
    return kind(**found)


def code_inputs(values: list[list[float]], mask: list[list[bool]], **parts: Any) -> CodeInputs:
    return inputs_of(CodeInputs, torch.tensor(mask), values=torch.tensor(values), **parts)


def heard_by(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What a part of a network is given while something runs."""
    heard: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach()))
    run()
    handle.remove()
    assert len(heard) == 1
    return heard[0]


# --- packed rows ---


def test_pad_lays_rows_out_and_leaves_absent_ones_empty() -> None:
    packed = Packed({"x": torch.tensor([1, 2, 3, 4, 5, 6])}, torch.tensor([0, 2, 2, 6]))
    columns, mask = packed.pad(torch.tensor([2, -1, 0, 1]))
    assert columns["x"].tolist() == [[3, 4, 5, 6], [0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert mask.sum(1).tolist() == [4, 0, 2, 0]
    assert packed.lengths(torch.tensor([0, 1, 2, -1])).tolist() == [2, 0, 4, 0]


@pytest.mark.parametrize("rows", [[], [-1, -1]], ids=["no rows", "nobody"])
def test_pad_always_has_a_place(rows: list[int]) -> None:
    packed = Packed({"x": torch.zeros(0, 3)}, torch.tensor([0]))
    columns, mask = packed.pad(torch.tensor(rows, dtype=torch.int64))
    assert columns["x"].shape == (len(rows), 1, 3)
    assert mask.shape == (len(rows), 1)
    assert not mask.any()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_pad_gives_back_what_was_packed(lengths: list[int], data: st.DataObject) -> None:
    items = torch.arange(sum(lengths) * 2).reshape(-1, 2)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = data.draw(st.lists(st.integers(-1, len(lengths) - 1), min_size=1, max_size=6))
    columns, mask = Packed({"x": items}, offsets).pad(torch.tensor(rows))
    for place, row in enumerate(rows):
        wanted = items[offsets[row] : offsets[row + 1]] if row >= 0 else items[:0]
        assert columns["x"][place][mask[place]].equal(wanted)
        assert (columns["x"][place][~mask[place]] == 0).all()
        assert mask[place].tolist() == sorted(mask[place].tolist(), reverse=True), "real items come first"


# --- coded events ---


def test_vocabulary_counts_records_not_events() -> None:
    twice, once = coded(("a", 2, NAN), ("a", 1, NAN), ("b", 1, NAN)), coded(("b", 1, NAN))
    assert CodeVocabulary.fit([twice, once], NOTHING).codes == ("b",)
    assert CodeVocabulary.fit([twice, once], NOTHING, min_count=1).codes == ("a", "b")
    assert CodeVocabulary.fit([], NOTHING).size == 1


def test_vocabulary_standardises_by_median_and_quartiles() -> None:
    records = [coded(("lab", 1, value), ("flat", 1, 7.0), ("plain", 1, NAN)) for value in (1.0, 2.0, 3.0, 4.0)]
    vocabulary = CodeVocabulary.fit(records, NOTHING)
    # quartiles of 1, 2, 3, 4 are 1.75 and 3.25; a constant or absent value keeps its own unit
    assert vocabulary.codes == ("flat", "lab", "plain")
    assert vocabulary.center == pytest.approx((7.0, 2.5, 0.0))
    assert vocabulary.scale == pytest.approx((1.0, 1.5 / 1.349, 1.0))
    encoded = vocabulary.encode(coded(("lab", 3, 4.0), ("lab", 2, NAN), ("flat", 1, 9.0), ("plain", 1, 0.5)))
    assert encoded is not None
    assert encoded["codes"].tolist() == [2, 2, 1, 3]
    assert encoded["values"] == pytest.approx([1.349, 0.0, 2.0, 0.5])
    assert encoded["has_value"].tolist() == [True, False, True, True]
    assert encoded["days"].tolist() == [3, 2, 1, 1]


def test_mostly_constant_value_is_scaled_by_its_standard_deviation() -> None:
    records = [coded(("lab", 1, value)) for value in (0.0, 0.0, 0.0, 0.0, 10.0)]
    assert CodeVocabulary.fit(records, NOTHING).scale == pytest.approx((4.0,))


def test_wild_values_are_clipped_and_infinite_ones_are_none() -> None:
    records = [coded(("lab", 1, value)) for value in (-1.0, 0.0, 1.0, np.inf)]
    vocabulary = CodeVocabulary.fit(records, NOTHING)
    assert vocabulary.center == (0.0,)
    encoded = vocabulary.encode(coded(("lab", 3, 1e9), ("lab", 2, -1e9), ("lab", 1, np.inf)))
    assert encoded is not None
    assert encoded["values"].tolist() == [5.0, -5.0, 0.0]
    assert encoded["has_value"].tolist() == [True, True, False]


def test_unseen_code_is_zero_and_says_nothing_by_its_value() -> None:
    vocabulary = CodeVocabulary.fit([coded(("a", 1, 5.0))], NOTHING, min_count=1)
    encoded = vocabulary.encode(coded(("new", 1, 3.0)))
    assert encoded is not None
    assert (encoded["codes"].tolist(), encoded["values"].tolist()) == ([0], [0.0])
    assert encoded["has_value"].tolist() == [False]
    assert vocabulary.encode(Record()) is None


LONG = coded(("sex", 0, NAN), ("age", 0, 60.0), *((f"e{i}", 10.0 - i, NAN) for i in range(6)))


def kept_codes(record: Record, **options: Any) -> list[str]:
    vocabulary = CodeVocabulary.fit([record], NOTHING, min_count=1, **options)
    encoded = vocabulary.encode(record)
    assert encoded is not None
    return ["?" if number == 0 else vocabulary.codes[number - 1] for number in encoded["codes"].tolist()]


def test_too_many_events_keep_the_static_facts_and_the_newest() -> None:
    assert kept_codes(LONG, max_events=4) == ["sex", "age", "e4", "e5"]
    assert kept_codes(LONG, max_events=8) == ["sex", "age", "e0", "e1", "e2", "e3", "e4", "e5"]


def test_static_facts_take_at_most_half_the_places() -> None:
    assert kept_codes(LONG, max_events=2) == ["sex", "e5"]
    assert kept_codes(LONG, max_events=1) == ["e5"]


@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_newest_event_is_always_kept(most: int, static: int, timed: int) -> None:
    events = [*((f"s{i}", 0.0, NAN) for i in range(static)), *((f"t{i}", 20.0 - i, NAN) for i in range(timed))]
    if not events:
        return
    kept = kept_codes(coded(*events), max_events=most)
    assert len(kept) == min(most, len(events))
    assert kept == [code for code, _, _ in events if code in kept], "order is kept"
    assert timed == 0 or f"t{timed - 1}" in kept


@pytest.mark.parametrize("kind", ["events", "codes", "images"])
def test_limit_of_nothing_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=f"max_{kind} must be at least 1; got 0"):
        {"events": CodeVocabulary, "codes": CodeGraph, "images": ImagePixels}[kind].fit(
            [LONG], NOTHING, **{f"max_{kind}": 0}
        )


def test_bins_keep_the_last_event_of_each_code() -> None:
    # bins of 12 hours before the prediction: days 1.4 and 1.1 share one, 0.9 is in the next
    record = coded(("hr", 1.4, 1.0), ("bp", 1.3, 2.0), ("hr", 1.1, 3.0), ("hr", 0.9, 4.0))
    vocabulary = CodeVocabulary.fit([record], NOTHING, min_count=1, bin_hours=12)
    encoded = vocabulary.encode(record)
    assert encoded is not None
    assert encoded["days"] == pytest.approx([1.3, 1.1, 0.9])
    everything = CodeVocabulary.fit([record], NOTHING, min_count=1).encode(record)
    assert everything is not None
    assert len(everything["days"]) == 4


@pytest.mark.parametrize("hours", [0, -6])
def test_bins_have_a_length(hours: float) -> None:
    with pytest.raises(UsageError, match="bin_hours must be more than 0"):
        CodeVocabulary.fit([LONG], NOTHING, bin_hours=hours)


# --- time and the embedding of an event ---


def reading_level() -> TimeEncoding:
    time = TimeEncoding(4)
    with torch.no_grad():
        time.mix.weight.zero_()
        time.mix.weight[0, 0] = 1.0
    return time


def when(time: TimeEncoding, days: list[float]) -> torch.Tensor:
    return time(torch.tensor([days]), torch.ones(1, len(days), dtype=torch.bool))


def test_time_is_the_logarithm_of_minutes() -> None:
    level = when(reading_level(), [0.0, 1 / 1440, 7 / 1440])[0, :, 0]
    assert (10 * level).exp().tolist() == pytest.approx([1.0, 2.0, 8.0])


@given(st.lists(st.floats(0, 40_000), min_size=2, max_size=6, unique=True))
@settings(max_examples=25, deadline=None)
def test_time_grows(days: list[float]) -> None:
    level = when(reading_level(), sorted(days))[0, :, 0]
    assert (level.diff() >= 0).all()


def test_time_after_the_prediction_counts_as_the_prediction_time() -> None:
    time = TimeEncoding(4)
    assert when(time, [-3.0]).equal(when(time, [0.0]))


def test_waves_tell_minutes_and_years_apart_alike() -> None:
    angles = TimeEncoding(4).frequencies
    top = float(angles[0]) * np.log1p(100 * 365.25 * 1440)
    assert top == pytest.approx(np.pi), "the slowest wave spans half a turn in a century, so it never repeats"


def test_event_is_code_and_slope_and_bend_and_time() -> None:
    embed = EventEmbedding(CodeVocabulary(("a", "b"), (0.0, 0.0), (1.0, 1.0)), 4)
    embed.valued.data.fill_(0.5)
    valued = [[True, False]]
    found = embed(code_inputs([[-2.0, 0.0]], [[True, True]], codes=[[1, 2]], days=[[3.0, 3.0]], has_value=valued))
    time = when(embed.time, [3.0])[0, 0]
    code, slope, bend = embed.code.weight, embed.slope.weight, embed.bend.weight
    torch.testing.assert_close(found[0, 0], code[1] - 2 * slope[1] + 2 * bend[1] + 0.5 + time)
    torch.testing.assert_close(found[0, 1], code[2] + time)


# --- encoders of coded events ---

FIVE = CodeVocabulary(tuple("abcde"), (0.0,) * 5, (1.0,) * 5)


class Repeat(nn.Module):
    """An embedding that repeats an event's value, so that sums can be done by hand."""

    def forward(self, inputs: CodeInputs) -> Tensor:
        return inputs.values.unsqueeze(-1).expand(-1, -1, 4)


def test_bag_mixes_mean_and_maximum() -> None:
    bag = CodeBag(FIVE, 4, slots=3).eval()
    bag.embed = Repeat()
    inputs = code_inputs([[-1.0, -4.0, 99.0], [2.0, 3.0, 7.0]], [[True, True, False], [True, True, True]])
    heard = heard_by(bag.mix, lambda: bag(inputs))
    assert heard[:, [0, 4]].tolist() == [[-2.5, -1.0], [4.0, 7.0]]
    assert bag(inputs).values.shape == (2, 3, 4)


def test_gru_reads_groups_of_equal_count() -> None:
    gru = CodeGRU(FIVE, 4, steps=2).eval()
    gru.embed, gru.norm = Repeat(), nn.Identity()
    real = [[True] * 5, [True, True, False, False, False], [True, False, False, False, False]]
    inputs = code_inputs([[1.0, 2, 3, 4, 5], [10, 20, 99, 99, 99], [6, 99, 99, 99, 99]], real)
    heard = heard_by(gru.recur, lambda: gru(inputs))
    # five events in two groups: three and two; fewer events than steps stay alone
    assert heard[..., 0].tolist() == [[2.0, 4.5], [10.0, 20.0], [6.0, 0.0]]
    assert gru(inputs).mask.tolist() == [[True, True], [True, True], [True, False]]


def test_gru_looks_back_only() -> None:
    gru = CodeGRU(FIVE, 4, steps=8).eval()
    inputs = code_inputs([[1.0, 2.0, 3.0]], [[True] * 3], codes=[[1, 2, 3]])
    later = inputs._replace(codes=torch.tensor([[1, 2, 5]]))
    one, other = gru(inputs).values, gru(later).values
    assert one[:, :2].equal(other[:, :2])
    assert not one[:, 2].equal(other[:, 2])


def test_events_of_a_transformer_are_a_set() -> None:
    encoder, order = CodeTransformer(FIVE, 4, layers=2).eval(), [2, 0, 1]
    inputs = code_inputs([[1.0, 2.0, 0.0]], [[True] * 3], codes=[[1, 2, 3]], days=[[5.0, 2.0, 0.0]])
    mixed = CodeInputs(*(part[:, order] for part in inputs))
    torch.testing.assert_close(encoder(mixed).values, encoder(inputs).values[:, order])


# --- the knowledge graph ---

ONTOLOGY = Knowledge(
    (
        Edge("ICD//E11.9", "is_a", "ICD//E11"),
        Edge("ICD//E11.2", "is_a", "ICD//E11"),
        Edge("ICD//E11", "is_a", "ICD//E"),
        Edge("ICD//E11", "is_a", "ICD//diabetes"),
        Edge("ICD//diabetes", "is_a", "ICD//E"),
        Edge("DRUG//metformin", "treats", "ICD//E11"),
        Edge("ICD//I10", "is_a", "ICD//I"),
        Edge("ICD//I", "is_a", "ICD//root"),
    )
)
SICK = coded(("ICD//E11.9", 5, NAN))


def lineage_names(graph: CodeGraph, name: str, most: int = 8) -> list[str]:
    line, real = graph.lineage(most)
    return [graph.nodes[i] for i in line[graph.number[name]][real[graph.number[name]]].tolist()]


def test_graph_holds_the_ontology_and_every_ancestor_once_nearest_first() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    assert set(graph.nodes) == {end for edge in ONTOLOGY.edges for end in (edge.head, edge.tail)}
    assert lineage_names(graph, "ICD//E11.9") == ["ICD//E11.9", "ICD//E11", "ICD//E", "ICD//diabetes"]
    assert lineage_names(graph, "ICD//E11.9", most=2) == ["ICD//E11.9", "ICD//E11"]
    assert lineage_names(graph, "DRUG//metformin") == ["DRUG//metformin"], "to treat is not to be"
    leaves = {graph.nodes[i] for i in graph.leaf.nonzero().flatten().tolist()}
    assert leaves == {"ICD//E11.9", "ICD//E11.2", "DRUG//metformin", "ICD//I10"}


def test_graph_takes_edges_both_ways() -> None:
    graph = CodeGraph.fit([SICK], Knowledge((Edge("b", "is_a", "a"), Edge("c", "treats", "a"))))
    assert sorted(graph.edge_index().T.tolist()) == [[0, 1], [0, 2], [1, 0], [2, 0]]
    assert graph.parents == ((1, 0),)


def test_full_graph_keeps_what_training_needs_and_stands_in_for_the_rest() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY, max_nodes=6)
    assert set(graph.nodes) == {
        "ICD//E11.9", "ICD//E11.2", "ICD//E11", "ICD//E", "ICD//diabetes", "DRUG//metformin",
    }  # fmt: skip
    small = CodeGraph.fit([SICK], ONTOLOGY, max_nodes=4)
    assert set(small.nodes) == {"ICD//E11.9", "ICD//E11", "ICD//E", "ICD//diabetes"}
    assert small.node("ICD//E11.2") == small.number["ICD//E11"], "an unseen code is its nearest ancestor"
    assert small.node("ICD//I10") is None


def test_code_outside_the_graph_is_the_longest_node_it_is_spelled_with() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    assert graph.node("ICD//E11.95") == graph.number["ICD//E11.9"]
    assert graph.node("ICD//E11.7") == graph.number["ICD//E11"]
    assert graph.node("ICD//Z99") is None
    assert graph.node("LAB//E11.9") is None, "the vocabulary before // must be the same"
    assert graph.node("ICD") is None


def test_cycles_in_the_ontology_are_tolerated() -> None:
    circle = Knowledge((Edge("a", "is_a", "b"), Edge("b", "is_a", "a"), Edge("c", "is_a", "c")))
    graph = CodeGraph.fit([coded(("a", 1, NAN))], circle)
    assert lineage_names(graph, "a") == ["a", "b"]
    assert lineage_names(graph, "c") == ["c"]
    for encoder in ENCODERS["graph"].values():
        inputs = inputs_of(GraphInputs, torch.ones(1, 3, dtype=torch.bool), nodes=torch.tensor([[0, 1, 2]]))
        assert encoder(graph, 4)(inputs).values.isfinite().all()


def test_record_gives_its_distinct_nodes_newest_last() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY, max_codes=2)
    record = coded(("ICD//I10", 9, NAN), ("ICD//E11.9", 5, NAN), ("LAB//x", 4, 1.0), ("ICD//I10", 2, NAN))
    encoded = graph.encode(record)
    assert encoded is not None
    assert [graph.nodes[i] for i in encoded["nodes"]] == ["ICD//E11.9", "ICD//I10"]
    assert encoded["days"].tolist() == [5, 2]
    more = graph.encode(coded(("ICD//E", 8, NAN), ("ICD//E11.9", 5, NAN), ("ICD//E11.95", 3, NAN), ("ICD//I", 1, NAN)))
    assert more is not None
    assert [graph.nodes[i] for i in more["nodes"]] == ["ICD//E11.9", "ICD//I"], "max_codes keeps the newest"
    assert more["days"].tolist() == [3, 1], "E11.95 is the node of E11.9, seen again later"
    assert graph.encode(coded(("LAB//x", 4, 1.0))) is None
    assert graph.encode(Record()) is None


def test_ancestors_are_averaged_by_how_well_they_fit() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAncestors(graph, 4).eval()
    nn.init.zeros_(encoder.fit.weight)  # all fit alike
    line = [graph.number[name] for name in lineage_names(graph, "ICD//E11.2")]
    names = ("ICD//E11.2", "DRUG//metformin", "ICD//diabetes")
    informed = encoder.inform(torch.tensor([graph.number[name] for name in names]))
    vectors = encoder.table.vectors
    torch.testing.assert_close(informed[0], vectors[line].mean(0))
    assert (vectors[line[0]] == 0).all(), "a leaf starts at zero and is what its ancestors say"
    assert (informed[1] == 0).all()
    two = [graph.number["ICD//diabetes"], graph.number["ICD//E"]]
    torch.testing.assert_close(informed[2], vectors[two].mean(0))


def test_siblings_start_alike() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAncestors(graph, 4).eval()
    pair = encoder.inform(torch.tensor([graph.number["ICD//E11.2"], graph.number["ICD//E11.9"]]))
    torch.testing.assert_close(pair[0], pair[1])


def adjacency(graph: CodeGraph) -> Tensor:
    dense = torch.eye(graph.size)
    dense[tuple(graph.edge_index())] = 1.0
    return dense


def node_states(encoder: Any, graph: CodeGraph) -> Tensor:
    """What message passing makes of all nodes, before time is added."""
    inputs = inputs_of(GraphInputs, torch.ones(1, graph.size, dtype=torch.bool), nodes=torch.arange(graph.size)[None])
    return heard_by(encoder.passing.dated.drop, lambda: encoder(inputs))[0]


def start(encoder: Any) -> tuple[Tensor, Tensor]:
    vectors = nn.init.normal_(encoder.passing.table.vectors)
    return vectors, encoder.passing.norms[0](vectors)


@torch.no_grad()
def test_graph_convolution_equals_the_dense_formula() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphConvolution(graph, 4, layers=1).eval()
    vectors, normed = start(encoder)
    near = adjacency(graph)
    root = near.sum(1).rsqrt()
    layer = encoder.passing.layers[0]
    passed = root[:, None] * near * root @ (normed @ layer.lin.weight.T) + layer.bias
    torch.testing.assert_close(node_states(encoder, graph), vectors + nn.functional.gelu(passed))


@torch.no_grad()
def test_graph_attention_equals_the_dense_formula() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAttention(graph, 4, layers=1, heads=1).eval()
    vectors, normed = start(encoder)
    layer = encoder.passing.layers[0]
    mixed = normed @ layer.lin.weight.T
    scores = (mixed @ layer.att_dst[0, 0])[:, None] + mixed @ layer.att_src[0, 0]
    scores = nn.functional.leaky_relu(scores, 0.2).masked_fill(adjacency(graph) == 0, -torch.inf)
    passed = scores.softmax(1) @ mixed + layer.bias
    torch.testing.assert_close(node_states(encoder, graph), vectors + nn.functional.gelu(passed))


def test_graph_attention_says_that_heads_must_divide_dim() -> None:
    with pytest.raises(UsageError, match=r"dim \(6\) must be divisible by heads \(4\)"):
        GraphAttention(CodeGraph.fit([SICK], ONTOLOGY), 6, heads=4)


# --- words ---


def test_words_are_lower_case_with_numbers_and_signs() -> None:
    assert split_words("No fever; SpO2 91.5% (<90), patient's BP 120/80") == [
        "no", "fever", "spo", "2", "91.5", "%", "<", "90", "patient's", "bp", "120", "/", "80",
    ]  # fmt: skip
    assert split_words("") == []


def test_word_vocabulary_keeps_frequent_words_of_many_records() -> None:
    records = [noted(("pain pain fever", 1)), noted(("fever cough", 1)), noted(("fever cough zeal zeal zeal", 1))]
    assert Words.fit(records, NOTHING, min_count=2).words == ("fever", "cough")
    assert Words.fit(records, NOTHING, min_count=1, vocabulary=3).words == ("fever", "cough", "pain")


def test_note_opens_with_its_kind_and_unknown_words_share_buckets() -> None:
    words = Words(("fever", "cough"), ("nursing", "radiology"))
    # 0 padding, 1 start, 2 nursing, 3 radiology, 4 fever, 5 cough, then 512 buckets
    assert words.size == 6 + 512
    record = Record(notes=(Note("Cough zebra", 2.0, "letter"), Note("fever", 1.0, "radiology")))
    encoded = words.encode(record)
    assert encoded is not None
    ids = encoded["ids"].tolist()
    assert ids[:2] == [1, 5]
    assert 6 <= ids[2] < 518
    assert ids[3:] == [3, 4]
    assert encoded["days"].tolist() == [2, 2, 2, 1, 1]
    assert words.encode(Record()) is None


def test_hashed_words_are_the_same_in_every_process() -> None:
    program = (
        "from encoders.notes import Words; from encoders.records import Note, Record; "
        "record = Record(notes=(Note('zebra okapi quagga', 1.0, 'x'),)); "
        "print(Words((), ()).encode(record)['ids'].tolist())"
    )
    here = Words((), ()).encode(Record(notes=(Note("zebra okapi quagga", 1.0, "x"),)))
    assert here is not None
    root = Path(__file__).resolve().parents[1]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(there.stdout) == here["ids"].tolist()
    assert len(set(here["ids"].tolist())) == 4


def test_newest_notes_are_kept_whole_first() -> None:
    record = noted(("one two three", 9.0), ("four five", 2.0))
    days = {most: Words((), (), most).encode(record) for most in (7, 5, 4, 2)}
    assert {most: each["days"].tolist() for most, each in days.items() if each} == {
        7: [9, 9, 9, 9, 2, 2, 2],
        5: [9, 9, 2, 2, 2],
        4: [2, 2, 2],  # one place left would hold a start mark and no word
        2: [2, 2],
    }
    whole, cut = days[7], days[5]
    assert whole is not None
    assert cut is not None
    assert cut["ids"].tolist() == [*whole["ids"][:2], *whole["ids"][4:]], "an older note loses its end"


# --- encoders of words ---


def note_inputs(ids: Sequence[Sequence[int]]) -> NoteInputs:
    numbers = torch.tensor(ids)
    return inputs_of(NoteInputs, numbers > 0, ids=numbers)


def test_note_bag_tells_the_order_of_words() -> None:
    bag = NoteBag(Words(("no", "fever", "cough"), ()), 4).eval()
    one, other, same = bag(note_inputs([[2, 3, 4], [4, 3, 2], [2, 3, 4]])).values
    assert not torch.allclose(one, other)
    assert one.equal(same)


def test_note_bag_averages_real_words_and_pairs() -> None:
    bag = NoteBag(Words(("no", "fever"), ()), 4).eval()
    heard = heard_by(bag.mix, lambda: bag(note_inputs([[2, 3, 0], [3, 0, 0]])))
    words = bag.embed.weight[[2, 3]]
    torch.testing.assert_close(heard[0, :4], words.mean(0))
    torch.testing.assert_close(heard[0, 4:8], words.amax(0))
    torch.testing.assert_close(heard[0, 8:12], heard[0, 12:])  # one pair is its own mean and maximum
    assert (heard[0, 8:12] != 0).any()
    assert (heard[1, 8:] == 0).all(), "one word makes no pair"


@pytest.mark.parametrize(("stride", "tokens"), [(1, 5), (2, 3), (4, 2)])
def test_note_transformer_strides(stride: int, tokens: int) -> None:
    encoder = NoteTransformer(Words(("no", "fever"), ()), 4, stride=stride).eval()
    found = encoder(note_inputs([[1, 2, 3, 2, 3], [1, 2, 0, 0, 0]]))
    assert found.mask.sum(1).tolist() == [tokens, -(-2 // stride)]


# --- subwords and language models ---


def save_language(
    folder: Path, *, half: bool = False, positions: int = 64, cut: Callable[[Any], None] | None = None
) -> str:
    """Save a tiny language model and its tokenizer as transformers does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "chest", "pain", "##s"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if cut:
        cut(tokenizer)
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=positions, **size)
    model = transformers.BertModel(config)
    (model.half() if half else model).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_language(tmp_path_factory.mktemp("language"))


def test_subwords_stand_between_marks_oldest_note_first(language: str) -> None:
    subwords = Subwords.fit([], NOTHING, model=language)
    encoded = subwords.encode(noted(("no chest pains", 9.0), ("fever zebra", 2.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 7, 8, 5, 1, 3]
    assert encoded["days"].tolist() == [9, 9, 9, 9, 9, 2, 2, 2]
    assert subwords.encode(Record()) is None
    assert subwords.encode(noted(("", 1.0))) is None


def test_newest_subwords_are_kept_within_the_limit(language: str) -> None:
    subwords = Subwords.fit([], NOTHING, model=language, max_tokens=6)
    encoded = subwords.encode(noted(("no chest pain", 9.0), ("fever fever", 2.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 5, 5, 3]
    assert encoded["days"].tolist() == [9, 9, 9, 2, 2, 2]


def test_subwords_need_no_folder_once_fitted(tmp_path: Path) -> None:
    folder = tmp_path / "language"
    subwords = Subwords.fit([], NOTHING, model=save_language(folder))
    for file in folder.iterdir():
        file.unlink()
    again = Subwords.from_dict(json.loads(json.dumps(subwords.to_dict())))
    encoded = again.encode(noted(("fever", 1.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 5, 3]
    with without_pretrained():
        encoder = NotePretrained(again, 8, model=str(folder))
    assert encoder.width == 16


def test_missing_language_model_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        Subwords.fit([], NOTHING, model=f"{tmp_path}/nowhere")
    text = str(raised.value)
    assert text.startswith(f"cannot load '{tmp_path}/nowhere': ")
    assert text.endswith("; give a local folder, or a hub id where there is a network")
    assert "\n" not in text


@pytest.mark.parametrize("setting", ["truncation", "padding"])
def test_tokenizer_settings_of_its_makers_do_not_apply_to_notes(tmp_path: Path, setting: str) -> None:
    def cut(tokenizer: Any) -> None:
        tokenizer.enable_truncation(2) if setting == "truncation" else tokenizer.enable_padding(length=6)

    subwords = Subwords.fit([], NOTHING, model=save_language(tmp_path, cut=cut))
    encoded = subwords.encode(noted(("no chest pain", 1.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 7, 3]


def test_language_model_saved_in_half_precision_can_be_used(tmp_path: Path) -> None:
    folder = save_language(tmp_path, half=True)
    encoder = NotePretrained(Subwords.fit([], NOTHING, model=folder), 8, model=folder).eval()
    assert encoder(note_inputs([[2, 5, 3]])).values.dtype == torch.float32


def test_more_tokens_than_a_language_model_has_places_are_laid_out_in_windows(tmp_path: Path) -> None:
    folder = save_language(tmp_path, positions=16)
    subwords = Subwords.fit([], NOTHING, model=folder, max_tokens=32)
    assert (subwords.window, subwords.max_tokens) == (16, 32)
    assert Subwords.fit([], NOTHING, model=folder).max_tokens == 16


def test_language_model_has_no_pooler_and_averages_neighbours(language: str) -> None:
    encoder = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language, stride=4).eval()
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    found = encoder.features(note_inputs([[2, 4, 5, 6, 7, 3], [2, 5, 3, 0, 0, 0]]))
    assert found.values.shape == (2, 2, 16)
    assert found.mask.tolist() == [[True, True], [True, False]]


def test_average_of_neighbours_by_hand() -> None:
    values = torch.tensor([[[1.0], [2.0], [6.0]], [[4.0], [0.0], [0.0]]])
    found = average(values, torch.tensor([[True, True, True], [True, False, False]]), stride=2)
    assert found.values.flatten().tolist() == [1.5, 6.0, 4.0, 0.0]
    assert found.mask.tolist() == [[True, True], [True, False]]


# --- pixels ---


def save(path: Path, pixels: Any, kind: Any = np.uint8) -> Path:
    Pillow.fromarray(np.array(pixels, kind)).save(path)
    return path


def test_sixteen_bits_are_scaled_over_their_own_range(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", [[1000, 2000], [3000, 5000]], np.uint16)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 63], [127, 255]]]
    assert read_pixels(save(tmp_path / "flat.png", [[900, 900]] * 2, np.uint16), 2, 1).tolist() == [[[0, 0], [0, 0]]]


def test_grey_and_colour_become_each_other(tmp_path: Path) -> None:
    grey = read_pixels(save(tmp_path / "grey.png", [[0, 50], [100, 200]]), 2, 3)
    assert grey.tolist() == [[[0, 50], [100, 200]]] * 3
    red = save(tmp_path / "red.png", [[[255, 0, 0]] * 2] * 2)
    assert read_pixels(red, 2, 3).tolist() == [[[255, 255]] * 2, [[0, 0]] * 2, [[0, 0]] * 2]
    assert read_pixels(red, 2, 1).tolist() == [[[76, 76]] * 2]  # 0.299 of 255


@pytest.mark.parametrize("size", [(4, 8), (1, 2), (2, 4)])
def test_longer_side_fits_and_the_rest_is_black(tmp_path: Path, size: tuple[int, int]) -> None:
    found = read_pixels(save(tmp_path / "wide.png", np.full(size, 255)), 4, 1)
    assert found.tolist() == [[[0] * 4, [255] * 4, [255] * 4, [0] * 4]]


def test_thin_picture_keeps_a_line(tmp_path: Path) -> None:
    assert read_pixels(save(tmp_path / "thin.png", np.full((1, 100), 255)), 4, 1).sum() == 4 * 255


def test_missing_pixel_of_a_float_picture_spoils_no_other(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tiff", [[NAN, 1.0], [0.0, 2.0]], np.float32)
    assert read_pixels(path, 2, 1).tolist() == [[[0, 127], [0, 255]]]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "text": lambda _: b"this is no picture",
    "empty": lambda _: b"",
    "flipped": lambda data: data[:40] + bytes(255 - each for each in data[40:60]) + data[60:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_image_names_its_file(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (20, 20)))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    pixels = ImagePixels(0.5, 0.25, 8)
    with pytest.raises(UnreadableImage) as raised:
        pixels.encode(Record(images=(Image(path, 1.0, "front"),)))
    assert str(raised.value).startswith(f"unreadable image {path}: ")
    assert "\n" not in str(raised.value)
    assert raised.value.path == path
    assert isinstance(raised.value, UsageError)


def test_missing_image_and_bomb_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImage, match=r"unreadable image .*gone.png: no such file"):
        read_pixels(tmp_path / "gone.png", 8, 1)
    path = save(tmp_path / "big.png", np.zeros((20, 20)))
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(UnreadableImage, match="decompression bomb"):
        read_pixels(path, 8, 1)


def test_pixels_learn_mean_and_spread_and_pass_over_damage(tmp_path: Path) -> None:
    black, white = save(tmp_path / "b.png", np.zeros((4, 4))), save(tmp_path / "w.png", np.full((4, 4), 255))
    (tmp_path / "bad.png").write_bytes(b"bad")
    record = Record(images=tuple(Image(path, 1.0, "front") for path in (black, white, tmp_path / "bad.png")))
    fitted = ImagePixels.fit([record], NOTHING, size=4, max_images=3)
    assert (fitted.mean, fitted.spread) == (0.5, 0.5)
    newest = ImagePixels.fit([Record(images=record.images[:2])], NOTHING, size=4, max_images=1)
    assert (newest.mean, newest.spread) == (1.0, 1.0), "only images that are used are learned from; no spread is 1"
    nothing = ImagePixels.fit([Record()], NOTHING)
    assert (nothing.mean, nothing.spread) == (0.5, 0.25)


def test_newest_images_are_kept(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", np.full((2, 2), 40 * i)) for i in range(3)]
    encoded = ImagePixels(0.5, 0.25, 2).encode(Record(images=tuple(Image(p, 9.0 - i, "") for i, p in enumerate(paths))))
    assert encoded is not None
    assert encoded["days"].tolist() == [8, 7]
    assert encoded["pixels"][:, 0, 0, 0].tolist() == [40, 80]


# --- encoders of images ---


def image_inputs(mask: list[list[bool]], size: int = 16, channels: int = 1) -> ImageInputs:
    real = torch.tensor(mask)
    pixels = torch.arange(real.numel()).reshape(*real.shape, 1, 1, 1).expand(*real.shape, channels, size, size)
    return ImageInputs(pixels.to(torch.uint8), torch.zeros(real.shape), torch.zeros(real.shape, dtype=torch.long), real)


def test_network_sees_real_images_only() -> None:
    seen: list[list[int]] = []

    def network(pixels: Tensor) -> Tensor:
        seen.append(pixels[:, 0, 0, 0].tolist())
        first = pixels[:, :1, 0, 0].float()
        return torch.stack([first, first + 0.5], dim=1)  # two tokens an image

    found = encode_real(image_inputs([[True, False], [True, True]]), network)
    assert seen == [[0, 2, 3]]
    assert found.values[..., 0].tolist() == [[0.0, 0.5, 0.0, 0.0], [2.0, 2.5, 3.0, 3.5]]
    assert found.mask.tolist() == [[True, True, False, False], [True] * 4]


def test_grid_gives_a_token_a_place() -> None:
    encoder = ImageConv(ImagePixels(0.5, 0.25, 16), 4, width=8, stages=2, grid=2).eval()
    assert encoder(image_inputs([[True, True]])).values.shape == (1, 8, 4)


PIXELS = ImagePixels(0.4, 0.2, 32)


def test_scale_of_pixels_is_the_networks_own_where_pretrained() -> None:
    colour = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    mean, spread = standard(PIXELS, True, colour)
    assert (mean.tolist(), spread.tolist()) == (pytest.approx(list(colour[0])), pytest.approx(list(colour[1])))
    mean, spread = standard(PIXELS, False, colour)
    assert (mean.tolist(), spread.tolist()) == (pytest.approx([0.4] * 3), pytest.approx([0.2] * 3))


def test_grey_picture_is_shown_to_a_colour_network_three_times() -> None:
    encoder = ImageTimm(PIXELS, 4, model="test_resnet").eval()
    inputs = image_inputs([[True]], 32)
    heard = heard_by(encoder.images.network, lambda: encoder(inputs._replace(pixels=inputs.pixels + 51)))
    assert heard.shape == (1, 3, 32, 32)
    torch.testing.assert_close(heard, torch.full_like(heard, (0.2 - 0.4) / 0.2))


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_timm_models_of_several_families(model: str) -> None:
    encoder = ImageTimm(PIXELS, 4, model=model).eval()
    assert encoder(image_inputs([[True, False], [True, True]], 32)).values.shape == (2, 2, 4)


@pytest.mark.parametrize("model", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_torchvision_models_of_several_families(model: str) -> None:
    encoder = ImageTorchvision(PIXELS, 4, model=model).eval()
    assert encoder(image_inputs([[True, False], [True, True]], 32)).values.shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (ImageTimm, "images.timm: unknown timm model 'resnet81'; did you mean 'resnet18'?"),
        (ImageTorchvision, "images.torchvision: unknown torchvision model 'resnet81'; did you mean 'resnet18'?"),
    ],
)
def test_unknown_image_model_names_the_nearest(component: Any, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        component(PIXELS, 4, model="resnet81")
    assert str(raised.value) == text


def test_picture_larger_than_a_model_of_fixed_size() -> None:
    encoder = ImageTimm(ImagePixels(0.5, 0.25, 240), 4, model="vit_tiny_patch16_224").eval()
    assert encoder(image_inputs([[True]], 240)).values.shape == (1, 1, 4)


def test_batch_with_one_image_can_be_trained_on() -> None:
    encoder = ImageTimm(PIXELS, 4, model="test_resnet").train()
    assert encoder(image_inputs([[True], [False]], 32)).values.isfinite().all()


# --- how an encoder's records are prepared ---


def test_options_reach_the_preprocessor_that_has_them() -> None:
    found = preparation(ENCODERS["codes"], "codes", Spec("gru"), {"max_events": 9})
    assert (found.modality, found.preprocessor, found.options) == ("codes", CodeVocabulary, {"max_events": 9})
    # `vocabulary` is an option of another notes encoder: it may stand in the configuration, and is not passed on
    mixed = preparation(ENCODERS["notes"], "notes", Spec("pretrained"), {"max_tokens": 9, "vocabulary": 5})
    assert mixed.options == {"max_tokens": 9, "model": "emilyalsentzer/Bio_ClinicalBERT"}


def test_encoders_hyperparameter_reaches_its_preprocessor() -> None:
    found = preparation(ENCODERS["notes"], "notes", Spec("pretrained", {"model": "my/model"}))
    assert (found.preprocessor, found.options) == (Subwords, {"model": "my/model"})


def test_same_preparation_same_key() -> None:
    bag, gru = (preparation(ENCODERS["codes"], "codes", Spec(name), {"max_events": 9}) for name in ("bag", "gru"))
    other = preparation(ENCODERS["codes"], "codes", Spec("bag"), {"max_events": 8})
    assert bag.key == gru.key
    assert bag.key != other.key
    assert bag.key.startswith("codes-")
    graph = preparation(ENCODERS["graph"], "graph", Spec("gcn"))
    assert graph.key != preparation(ENCODERS["codes"], "codes", Spec("bag")).key


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        (Spec("bag"), {"max_event": 9}, "preprocess.codes: unknown preprocessing option 'max_event'; did you mean "
         "'max_events'?"),
        (Spec("bga"), None, "encoders.codes: unknown component 'bga'; did you mean 'bag'?"),
        (Spec("bag", {"slot": 2}), None, "encoders.codes: unknown hyperparameter of bag 'slot'; did you mean 'slots'?"),
        (Spec("bag", {"slots": 1.5}), None, "encoders.codes: bag.slots must be int; got 1.5"),
    ],
)  # fmt: skip
def test_mistakes_in_a_preparation_are_one_line(spec: Spec, options: Any, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        preparation(ENCODERS["codes"], "codes", spec, options)
    assert str(raised.value) == text


def test_option_of_another_type_is_refused() -> None:
    with pytest.raises(UsageError, match=r"preprocess.codes.max_events must be int; got 'many'"):
        preparation(ENCODERS["codes"], "codes", Spec("bag"), {"max_events": "many"})


def test_pretrained_weights_are_fetched_again_after_a_failure() -> None:
    def fail() -> None:
        with without_pretrained():
            assert not fetch_pretrained()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert fetch_pretrained()

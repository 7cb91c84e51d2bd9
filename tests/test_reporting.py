"""Parts of the report of a comparison: what is said in words, drawn, counted, printed and left out."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_comparison import planted, tiny_config

from experiments.comparison import Comparison
from experiments.held_out import HeldOut
from experiments.reporting.charts import Scale, interval
from experiments.reporting.comparison_page import comparison_html
from experiments.reporting.cost import cost_part, training_costs
from experiments.reporting.latex import comparison_tex, escape, leaderboard_csv, sections_tex
from experiments.reporting.page import Part, image, page
from experiments.reporting.rank_diagram import in_words, rank_diagram_png
from experiments.reporting.reproducibility import reproducibility_part, reproduction
from experiments.reporting.table import Stacked, probability, table
from experiments.reporting.tripod import COVERED, NOT, PARTLY, items
from experiments.reporting.verdict import finding, headline, meaning
from experiments.section import Section, Table
from experiments.statistics.intervals import Interval
from experiments.statistics.ranks import mean_ranks


@pytest.fixture(scope="module")
def found() -> Comparison:
    return planted()


def test_the_headline_says_what_is_shown_and_no_more(found: Comparison) -> None:
    assert headline(found) == "Fusion helps: late predicts better than the best single modality, codes."
    assert "in 50%" in meaning(found)
    assert "rarely" in meaning(found)
    doubted = replace(found, differences=[replace(each, low=-0.1, high=0.2) for each in found.differences])
    assert headline(doubted).startswith("No difference is shown between the best fusion, late, and the best single")
    assert "by chance" in meaning(doubted)
    turned = [replace(each, value=-each.value, low=-each.high, high=-each.low) for each in found.differences]
    assert headline(replace(found, differences=turned)).startswith("Fusion does not help here: codes alone")
    assert finding(replace(found, rows=[row for row in found.rows if row.kind == "fusion"])) is None


def test_an_interval_is_drawn_where_its_numbers_are() -> None:
    scale = Scale(0.0, 1.0, (0.0, 0.5, 1.0))
    assert [scale.x(each) for each in (0.0, 0.5, 1.0)] == [16, 120, 224]
    drawn = interval(scale, 0.5, 0.25, 0.75, "a <half>", kind="modality").markup
    assert "x1='68.0' x2='172.0'" in drawn
    assert "<title>a &lt;half&gt;</title>" in drawn
    assert "class='mark'" not in interval(scale, float("nan"), float("nan"), float("nan"), "not defined").markup
    assert Scale.over([float("nan")]).ticks


def test_a_diagram_of_ranks_names_everybody_and_what_is_not_shown_to_differ() -> None:
    ranks = mean_ranks(["a<b", "b", "c"], np.array([[0.9, 0.8, 0.1]] * 4), higher_is_better=True)
    said = "mean ranks over folds, 1 is best: a<b 1.00, b 2.00, c 3.00; not shown to differ: a<b, b; b, c"
    assert in_words(ranks) == said
    folded = planted(100, fold=np.arange(300) % 3)
    assert folded.ranks is not None
    html = comparison_html(folded)
    assert f"alt='{in_words(folded.ranks)}'" in html
    assert base64.b64encode(rank_diagram_png(folded.ranks)).decode() in html, (
        "the picture of the file is that of the page"
    )


def test_long_tables_are_folded_and_have_headers() -> None:
    text = table(["a", "b"], [[f"row {i}", i] for i in range(20)], fold=True)
    assert "<summary>12 more rows</summary>" in text
    assert text.count("<th scope='row'>") == 20
    assert "<td class='number'>+1<small>0 to 2</small></td>" in table(["a", "b"], [["x", Stacked("+1", "0 to 2")]])
    assert [probability(p) for p in (0.04, 0.0001, float("nan"))] == ["0.040", "below 0.001", "not defined"]


def test_a_page_of_many_parts_lists_them() -> None:
    text = page("title", "lead", [Part("Same?", ["a"]), Part("Same?", ["b"]), Part("\u00e4", ["c"]), Part("d", ["e"])])
    links, ids = re.findall(r"href='#(\S+?)'", text), re.findall(r"<h2 id='(\S+?)'", text)
    assert links == ids
    assert len(set(ids)) == 4
    assert "width='320'" in image(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (500).to_bytes(4), "as large as it was drawn")


def test_costs_are_means_over_runs_and_what_was_not_recorded_is_said(found: Comparison, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.npz" for i in range(3)]
    for path, seconds in zip(paths, (1.0, 2.0, 6.0), strict=True):
        np.savez(path, seconds=seconds, **({"parameters": 5000} if seconds < 3 else {}))
    none = np.zeros(0, np.int64)
    held_out = HeldOut(none, none, none, none, {}, files={"late": [[paths[0], paths[1]]], "codes": [[paths[2]]]})
    costs = training_costs(held_out)
    assert costs == {"late": {"runs": 2, "seconds": 1.5, "parameters": 5000}, "codes": {"runs": 1, "seconds": 6}}
    part = cost_part(replace(found, about={"costs": costs}))
    assert part is not None
    text = "".join(part.body)
    assert "trained 9 seconds" in text
    assert "5,000 parameters" in text
    assert "not recorded" in text
    assert cost_part(found) is None


def test_what_it_takes_to_run_again_holds_no_password(found: Comparison, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"codes": "bag", "notes": "bag"}, "early")
    tracking = config.tracking.model_copy(update={"uri": "http://me:secret@tracker:5000"})
    again = reproduction(config.model_copy(update={"tracking": tracking}), "training", 4, audit=False)
    assert again["commands"] == [
        f"ehrfusion compare {tmp_path}/runs/tiny/compare-training/config.yaml --by training --seeds 4 --no-audit"
    ]
    assert "secret" not in str(again)
    assert {"python", "torch", "optuna", "mlflow", "ehrfusion"} <= set(again["versions"])
    part = reproducibility_part(replace(found, about={"again": again, "git_commit": "abc+changes"}))
    assert part is not None
    assert "git checkout abc\n" in "".join(part.body)
    assert "not committed" in "".join(part.body)


def test_the_checklist_is_whole_and_depends_on_what_is_there(found: Comparison) -> None:
    plain = items(found)
    assert len(plain) == len({item.number for item in plain}) == 52
    assert {int(item.number.rstrip("abcdefg")) for item in plain} == set(range(1, 28))
    assert {item.answered for item in plain} == {COVERED, PARTLY, NOT}
    known = {each.number: each.answered for each in plain}
    tables = {name: Table(["group"], []) for name in ("subgroups", "alerts", "recalibration")}
    more = {each.number: each.answered for each in items(found, [Section("Do groups differ?", [], tables)])}
    assert {number: (known[number], more[number]) for number in known if known[number] != more[number]} == {
        "12f": (NOT, PARTLY),
        "14": (NOT, PARTLY),
        "15": (PARTLY, COVERED),
        "23a": (PARTLY, COVERED),
    }


def test_latex_is_escaped_and_its_tables_are_whole(found: Comparison) -> None:
    assert escape("a_b & 5% {x} \\") == r"a\_b \& 5\% \{x\} \textbackslash{}"
    rows = [replace(row, strategy=row.strategy + "_&") for row in found.rows]
    text = comparison_tex(replace(found, rows=rows))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert r"late\_\& & fusion" in text
    braces = text.replace("\\\\", "")  # a row's end and a brace are no escaped brace
    assert braces.count("{") - braces.count(r"\{") == braces.count("}") - braces.count(r"\}")
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) in (6, 4)


def test_every_table_of_a_section_is_in_latex_too() -> None:
    cells = ["a_b", Interval(-0.5, float("nan"), 0.25), float("nan"), 3, Interval(float("nan"), 0.0, 0.0)]
    text = sections_tex([Section("Why? 5%", [], {"t_1": Table(["x_y", "b", "c", "d", "e"], [cells], "A & B.")})])
    assert r"\caption{Why? 5\%: t 1. A \& B.}" in text
    assert r"x\_y & b & c & d & e \\" in text
    assert r"a\_b & \shortstack[r]{$-0.500$\\{\scriptsize no bound to 0.250}} & n.d. & 3 & n.d. \\" in text
    assert text.count(r"\begin{tabular}{llrrr}") == text.count(r"\end{tabular}}") == 1


def test_what_latex_cannot_set_is_replaced() -> None:
    text = escape("".join(map(chr, [*range(32, 127), 0xB2, 0x2212, 0x2013, 0x2014, 0x2026, 0x3B2, 0x4E00])))
    assert text.isascii()
    assert r"\textsuperscript{2}" in text
    assert "--" in text
    assert text.endswith("?")


def test_the_leaderboard_as_csv_has_a_line_a_strategy(found: Comparison) -> None:
    costs = {"late": {"runs": 3, "seconds": 2.0, "parameters": 10.0}}
    lines = list(csv.DictReader(io.StringIO(leaderboard_csv(replace(found, about={"costs": costs})))))
    assert [line["strategy"] for line in lines] == ["late", "early", "codes", "notes"]
    assert (lines[0]["rank"], lines[0]["seconds"], lines[1]["seconds"]) == ("1", "2", "")
    assert float(lines[0]["auroc_low"]) < float(lines[0]["auroc"]) < float(lines[0]["auroc_high"])


def test_the_order_of_the_page(found: Comparison) -> None:
    sections = [Section("Calibrated?", ["Yes."])]
    about = {"warnings": ["w"], "costs": {"late": {"runs": 1, "seconds": 1.0}}}
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", comparison_html(replace(found, about=about), sections))
    assert titles == [
        "What was found", "Warnings", "Leaderboard", "Differences in AUROC", "Calibrated?", "How it was done",
        "What it cost", "TRIPOD+AI checklist",
    ]  # fmt: skip

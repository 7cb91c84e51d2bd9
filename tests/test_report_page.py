"""The page of a comparison in a browser: quiet, alone, no wider than a phone, dark on a dark system."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_comparison import planted

from experiments.plots import forest_png
from experiments.reporting.comparison_page import comparison_html
from experiments.section import Picture, Section, Table

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")

# The page has no script; the frame around it asks what came of it. A frame can be narrower than chromium's windows.
PROBE = """<!doctype html><iframe id='page' style='width:390px;height:900px;border:0' srcdoc="{page}"></iframe>
<script>addEventListener('load', () => {{
  const own = document.getElementById('page').contentWindow, page = own.document;
  const images = [...page.images];
  const style = own.getComputedStyle(page.body);
  document.title = JSON.stringify({{
    width: page.documentElement.scrollWidth, height: page.documentElement.scrollHeight,
    images: images.map(each => each.complete ? each.naturalWidth : 0), paper: style.backgroundColor, ink: style.color,
    requests: own.performance.getEntriesByType('resource').map(each => each.name)
      .filter(each => !each.startsWith('data:')),
    headings: [...page.querySelectorAll('h1,h2,h3')].map(each => each.tagName),
    targets: [...page.querySelectorAll('nav a')].map(each => page.getElementById(each.hash.slice(1)) !== null),
  }});
}});</script>"""


@pytest.fixture(scope="module")
def page() -> str:
    found = planted(100, about={"name": "planted", "warnings": ["a warning"], "patients": 300})
    rows = [[f"group {i}", 10 + i, 0.5] for i in range(20)]
    section = Section("Groups?", ["Some."], {"groups": Table(["group", "patients", "AUROC"], rows)}, {
        "forest": Picture(forest_png(found), "intervals"),
    })  # fmt: skip
    return comparison_html(found, [section])


@pytest.fixture(scope="module")
def looked(page: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, object], str]]:
    """Return what a browser finds on the page, and what it writes on its console, under a light or a dark system."""
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "probe.html"
    path.write_text(PROBE.format(page=html.escape(page, quote=True)), encoding="utf-8")

    def look(system: str) -> tuple[dict[str, object], str]:
        scheme = {"dark": "0", "light": "1"}[system]
        command = [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--hide-scrollbars", "--disable-background-networking", f"--user-data-dir={folder / system}",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
        assert title is not None, done.stderr[-2000:]
        console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
        return json.loads(html.unescape(title.group(1))), console

    return look


def test_a_browser_finds_nothing_wrong_and_asks_nobody(
    page: str, looked: Callable[[str], tuple[dict[str, object], str]]
) -> None:
    light, console = looked("light")
    assert console == ""
    assert light["requests"] == []
    assert light["width"] == 390
    assert light["images"]
    assert all(light["images"])  # type: ignore[call-overload]
    assert light["headings"][:2] == ["H1", "H2"]  # type: ignore[index]
    assert light["headings"].count("H1") == 1  # type: ignore[attr-defined]
    assert all(light["targets"])  # type: ignore[call-overload]
    dark, console = looked("dark")
    assert console == ""
    assert _brightness(light["paper"]) > 200 > 60 > _brightness(dark["paper"])
    assert _brightness(light["ink"]) < 60 < 200 < _brightness(dark["ink"])


def test_it_prints(page: str, tmp_path: Path) -> None:
    path, out = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(page, encoding="utf-8")
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'own'}"]
    subprocess.run([*command, f"--print-to-pdf={out}", path.as_uri()], capture_output=True, timeout=120, check=True)
    assert out.read_bytes().startswith(b"%PDF")


def test_no_color_is_hard_to_read() -> None:
    """Words stand out from their paper at 4.5:1 and marks at 3:1, light and dark."""
    from experiments.reporting.style import CSS

    for number, block in enumerate(re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)):
        colours = dict(re.findall(r"--(\S+): (#[0-9a-f]{3,6});", block))
        for word, paper in [(w, p) for w in ("ink", "soft", "accent") for p in ("paper", "box")] + [
            (w, f"{w}-box") for w in ("good", "doubt", "bad")
        ]:
            assert _contrast(colours[word], colours[paper]) >= 4.5, (number, word, paper)
        for mark in ("fusion", "modality", "control", "training", "without"):
            assert _contrast(colours[mark], colours["paper"]) >= 3, (number, mark)


def _brightness(colour: object) -> float:
    return sum(map(int, re.findall(r"\d+", str(colour))[:3])) / 3


def _contrast(one: str, other: str) -> float:
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

"""How pages look: light and dark, on a desk, on a phone and on paper; colours that colour-blind readers tell apart."""

from __future__ import annotations

# Marks follow Okabe and Ito, darkened or lightened until they stand out (3:1) from the paper they are on; what a colour
# says is said by a shape or a word too.
CSS = """
:root { color-scheme: light dark; --ink: #1b2230; --soft: #566072; --line: #dde2ea; --paper: #ffffff; --box: #f5f7fb;
  --accent: #0a64a4; --good: #00734f; --doubt: #6b5300; --bad: #b3400e; --good-box: #e4f5ee; --doubt-box: #fbf3dc;
  --bad-box: #fdeee6; --fusion: #0072b2; --modality: #c85000; --control: #007f5d; --training: #a8508a;
  --without: #8a6200; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9edf4; --soft: #a9b3c2; --line: #333c4a; --paper: #12161d; --box: #1b212b; --accent: #6fb9ee;
    --good: #4fd0a3; --doubt: #eac35c; --bad: #ff9d70; --good-box: #10302a; --doubt-box: #322a12; --bad-box: #3a2118;
    --fusion: #5db5f0; --modality: #ff9350; --control: #35c69d; --training: #e4a0c8; --without: #eac04e; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
  background: var(--paper); margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 72rem; overflow-wrap: break-word; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.6rem; padding-bottom: 1rem; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.1rem); line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; line-height: 1.3; letter-spacing: -.01em; margin: 3rem 0 .6rem; scroll-margin-top: 1rem; }
main > section:first-child > h2 { margin-top: 1.6rem; }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .6rem 0; } .lead, .note { color: var(--soft); } .lead { margin: 0; }
.note { font-size: .88rem; }
a { color: var(--accent); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible, .wide:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: 0; max-width: none; }
nav a { display: block; font-size: .86rem; text-decoration: none; color: var(--soft); padding: .25rem .6rem;
  border: 1px solid var(--line); border-radius: 1rem; }
nav a:hover { color: var(--accent); border-color: var(--accent); }
@media (min-width: 88rem) {
  body { max-width: 86rem; display: grid; grid-template-columns: 12rem minmax(0, 1fr); column-gap: 3rem; }
  body:not(:has(nav)) { display: block; max-width: 72rem; }
  header { grid-column: 1 / -1; } nav { position: sticky; top: 1.5rem; align-self: start; }
  nav ol { display: block; border-left: 1px solid var(--line); }
  nav a { border: 0; border-left: 2px solid transparent; border-radius: 0; margin-left: -1px; padding-left: .9rem; }
  main > section:first-child > h2 { margin-top: 0; }
}
.verdict { background: var(--box); border: 1px solid var(--line); border-radius: 12px; padding: 1.3rem 1.4rem; }
.verdict p { margin: .5rem 0; } .verdict .headline { font-size: clamp(1.2rem, 3.4vw, 1.55rem); line-height: 1.32;
  font-weight: 650; letter-spacing: -.01em; margin: .5rem 0; }
.verdict .numbers { color: var(--soft); font-size: .88rem; }
.pill { display: inline-block; font-size: .8rem; font-weight: 650; line-height: 1.35; padding: .15rem .6rem;
  border-radius: 1rem; }
.good { color: var(--good); background: var(--good-box); } .doubt { color: var(--doubt); background: var(--doubt-box); }
.bad { color: var(--bad); background: var(--bad-box); }
.found { display: grid; gap: .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .8rem; }
@media (min-width: 60rem) { .found:has(.cards) { grid-template-columns: 1fr 18rem; }
  .cards { grid-template-columns: 1fr; } }
.card { display: flex; flex-direction: column; justify-content: center; padding: .8rem 1rem;
  border: 1px solid var(--line); border-radius: 10px; }
.card b { display: block; font-size: 1.65rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card span { display: block; color: var(--soft); font-size: .86rem; }
.warnings { background: var(--bad-box); border-left: 4px solid var(--bad); border-radius: 6px;
  padding: .7rem 1rem .7rem 2.2rem; margin: .6rem 0; max-width: none; }
.wide { overflow-x: auto; margin: .8rem 0; max-width: 100%; }
table { border-collapse: collapse; min-width: min(100%, 32rem); font-size: .9rem; line-height: 1.4; }
th, td { text-align: left; padding: .45rem 1.1rem .45rem 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; }
thead th { color: var(--soft); font-weight: 600; font-size: .82rem; vertical-align: bottom; }
tbody th { font-weight: 600; } tbody tr:hover > * { background: var(--box); }
.wide tbody th { position: sticky; left: 0; background: var(--paper); z-index: 1; min-width: 6.5rem; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; } small { color: var(--soft); }
td small, th small { display: block; font-size: .78rem; font-weight: 400; }
td.drawn, th.drawn { padding-top: 0; padding-bottom: 0; }
td.drawn svg, th.drawn svg { display: block; }
.facts th { color: var(--soft); font-weight: 600; width: 11rem; vertical-align: top; }
.facts { table-layout: fixed; width: 100%; } .facts td { overflow-wrap: anywhere; padding-right: 0; }
@media (max-width: 34rem) { .facts, .facts tbody, .facts tr, .facts th, .facts td { display: block; width: auto; }
  .facts th { border: 0; padding-bottom: 0; } .facts td { padding-top: .1rem; } h2 { margin-top: 2.3rem; }
  body { padding: 1.3rem 1rem 3rem; } .verdict { padding: 1rem; } }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: var(--box); padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto;
  margin: .6rem 0; } pre code { background: none; padding: 0; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .92rem; padding: .2rem 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; }
figure { margin: 1rem 0; max-width: 100%; }
figcaption { color: var(--soft); font-size: .86rem; max-width: 46rem; margin-top: .3rem; }
img { max-width: 100%; height: auto; display: block; mix-blend-mode: multiply; }
svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: currentColor; }
.wide > svg { min-width: 40rem; }
svg .grid { stroke: var(--line); } svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .small { fill: var(--soft); } svg.fusion { --mark: var(--fusion); } svg.modality { --mark: var(--modality); }
svg.control { --mark: var(--control); } svg.training { --mark: var(--training); }
svg.without { --mark: var(--without); } svg.other, svg.open { --mark: var(--soft); } svg.shown { --mark: var(--good); }
svg .mark { fill: var(--mark); stroke: var(--mark); } svg.open .mark { fill: var(--paper); stroke-width: 2; }
svg .seed { fill: var(--mark); opacity: .65; }
svg .span { stroke: var(--mark); stroke-width: 2.5; stroke-linecap: round; }
svg .bar { fill: var(--fusion); opacity: .75; }
@media (prefers-color-scheme: dark) { img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; } }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --box: #fff; --accent: #000;
    --good: #00573c; --doubt: #574300; --bad: #8f330b; --good-box: #fff; --doubt-box: #fff; --bad-box: #fff;
    --fusion: #0072b2; --modality: #c85000; --control: #007f5d; --training: #a8508a; --without: #8a6200; }
  body { display: block; max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  img { filter: none; mix-blend-mode: normal; } .wide { overflow: visible; } table { font-size: 8pt; }
  .wide tbody th { position: static; min-width: 0; } .number { white-space: normal; } th, td { padding-right: .4rem; }
  h2, h3 { break-after: avoid; } img, tr, svg, .card, .verdict { break-inside: avoid; } pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; display: block; height: auto; } summary { display: none; }
}
"""

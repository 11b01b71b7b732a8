"""How the page looks in a real browser: what stands where, what is told from what, at three widths and on paper."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Any

import pytest
from made_up_results import made_up_results, with_evidence
from made_up_trace import made_up_trace

from svdtrace.report import render

VIEWS = [(1440, 900, False), (1024, 768, True), (390, 844, False), (320, 640, True)]
IDS = ["1440", "1024 dark", "390", "320 dark"]

# The places that an element's letters take, line by line.
LINES = """const lines = (element) => {
  const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), range = document.createRange(), places = new Set();
  while (walk.nextNode()) { range.selectNodeContents(walk.currentNode);
    for (const box of range.getClientRects()) if (box.width > 0) places.add(Math.round(box.bottom / 6)); }
  return places.size; };"""
# Every line of the circuit as points, and every node that is not its end as a box.
CROSSINGS = """(() => {
  const cy = document.getElementById('stage')._cyreg.cy;
  const nodes = cy.nodes('.head, .other').toArray();
  const between = (a, b, many) => Array.from({ length: many }, (_, i) =>
    ({ x: a.x + ((b.x - a.x) * i) / many, y: a.y + ((b.y - a.y) * i) / many }));
  const curve = (a, c, b) => Array.from({ length: 41 }, (_, i) => i / 40).map((t) =>
    Object.fromEntries(['x', 'y'].map((d) => [d, (1 - t) ** 2 * a[d] + 2 * t * (1 - t) * c[d] + t * t * b[d]])));
  const found = [];
  for (const edge of cy.edges().toArray()) {
    const [start, end] = [edge.sourceEndpoint(), edge.targetEndpoint()];
    const control = edge.controlPoints(), bends = edge.segmentPoints() || [];
    const stops = [start, ...bends, end];
    const points = control && control.length ? curve(start, control[0], end)
      : stops.slice(1).flatMap((stop, i) => between(stops[i], stop, 40));
    for (const node of nodes) {
      if (edge.source().same(node) || edge.target().same(node)) continue;
      const { x, y } = node.position(), [w, h] = [node.width() / 2, node.height() / 2];
      if (points.some((p) => Math.abs(p.x - x) < w && Math.abs(p.y - y) < h)) found.push(`${edge.id()} through ${node.id()}`);
    }
  }
  return found;
})()"""
OVERLAPS = """[...document.querySelectorAll('svg.chart')].flatMap((chart) => {
  const texts = [...chart.querySelectorAll('text')].map((text) => ({ text: text.firstChild.textContent, box: text.getBoundingClientRect() }));
  const outside = texts.filter(({ box }) => box.left < -1 || box.right > innerWidth + 1).map(({ text }) => `${text} outside`);
  return [...outside, ...texts.flatMap((one, i) => texts.slice(i + 1).filter((two) =>
    one.box.left < two.box.right - 1 && two.box.left < one.box.right - 1 && one.box.top < two.box.bottom - 3 && two.box.top < one.box.bottom - 3
  ).map((two) => `${one.text} over ${two.text}`))];
})"""
# Text of less contrast with what lies behind it than WCAG's level AA asks for.
PALE = """(() => {
  const pen = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const read = (colour) => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let each = element; each; each = each.parentElement) {
    const colour = read(getComputedStyle(each).backgroundColor); if (colour[3] > 250) return colour; } return [255, 255, 255]; };
  const found = new Set();
  for (const element of document.querySelectorAll('main *, header *, nav *, footer *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || element.closest('.hidden, :disabled, option, canvas, #stage')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(read(element instanceof SVGElement ? style.fill : style.color)), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.add(`${element.tagName} ${element.className.baseVal ?? element.className}: ${element.textContent.slice(0, 30)} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return [...found];
})()"""


@cache
def whole() -> str:
    return render(with_evidence(made_up_trace()), made_up_results())


@pytest.fixture(params=VIEWS, ids=IDS)
def view(request, opened) -> tuple[Any, int, int]:
    width, height, dark = request.param
    return opened(whole(), width=width, height=height, dark=dark), width, height


def box(page: Any, selector: str) -> dict[str, float]:
    return page.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")


def test_nothing_overlaps_breaks_or_leaves_its_place(view):
    page, width, height = view
    assert page.problems == []
    assert page.run("document.documentElement.scrollWidth") <= width
    # The circuit is in the first view, and all of it in its frame.
    assert box(page, "#frame")["top"] < 0.7 * height
    stage = page.run(
        "(() => { const cy = document.getElementById('stage')._cyreg.cy, box = cy.nodes().renderedBoundingBox(); "
        "return [box.x1, box.y1, cy.width() - box.x2, cy.height() - box.y2]; })()"
    )
    assert min(stage) >= 0
    assert page.run(CROSSINGS) == []
    assert page.run(OVERLAPS) == []
    assert page.run(PALE) == []
    broken = page.run(
        f"(() => {{ {LINES} return [...document.querySelectorAll('.number, .whole')].filter((each) => "
        "lines(each) > 1 && each.textContent.length < 28).map((each) => each.textContent); })()"
    )
    assert broken == []


def test_the_cells_of_the_heat_map_stand_in_rows_whether_heads_fired_or_not(opened):
    page = opened(whole())
    rows = page.run(
        "[...document.querySelectorAll('#map tbody tr')].map((row) => [...row.querySelectorAll('.cell')].map((cell) => "
        "[cell.disabled, cell.getBoundingClientRect().top, cell.getBoundingClientRect().height]))"
    )
    assert any(disabled for row in rows for disabled, *_ in row)
    for row in rows:
        assert len({(round(top), round(height)) for _, top, height in row}) == 1


def test_what_the_pointer_is_on_is_lit_and_told(opened):
    page = opened(render(made_up_trace(injected=True)))
    where = page.run(
        "(() => { const cy = document.getElementById('stage')._cyreg.cy;"
        "const clear = (edge) => Math.min(...cy.nodes('.head').map((node) => Math.hypot("
        "node.position('x') - edge.midpoint().x, node.position('y') - edge.midpoint().y)));"
        "const edge = cy.edges('.dest').sort((a, b) => clear(b) - clear(a))[0];"
        "const at = edge.renderedMidpoint(), box = document.getElementById('stage').getBoundingClientRect();"
        "return { x: box.left + at.x, y: box.top + at.y }; })()"
    )
    for move in (0, 1):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=where["x"] + move, y=where["y"])
    page.settle()
    told = page.run("document.getElementById('tip').textContent")
    assert all(word in told for word in ("→", "query side", "total weight", "of all written", "of 12 prompts"))
    lit = page.run(
        "(() => { const cy = document.getElementById('stage')._cyreg.cy; return ['lit', 'dimmed'].map((name) => "
        "cy.elements(`.${name}`).length); })()"
    )
    assert lit[0] >= 3
    assert lit[1] > lit[0]
    assert page.run("document.querySelectorAll('#tip *:not(p, b)').length") == 0
    frame, tip = box(page, "#frame"), box(page, "#tip")
    assert frame["left"] <= tip["left"]
    assert tip["right"] <= frame["right"]
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    page.settle()
    assert page.run("document.getElementById('tip').hidden")
    assert page.problems == []


def test_the_legend_names_every_look_that_is_drawn_and_no_other(opened):
    page = opened(whole())
    shown = "[...document.querySelectorAll('#legend li:not([hidden])')].map((each) => each.textContent).join(';')"
    words = page.run(shown)
    assert "the wider, the larger its total weight" in words
    assert all(word in words for word in ("query side", "key side", "fainter", "at work", "a head", "picked"))
    drawn = "document.getElementById('stage')._cyreg.cy.nodes('{}').length > 0"
    assert ("root" in words) == page.run(drawn.format(".root"))
    assert ("another writer" in words) == page.run(drawn.format(".other"))
    page.run("(() => { const rank = document.getElementById('rank'); rank.value = 'share'; rank.dispatchEvent(new Event('input')); })()")
    page.settle()
    assert "its median share" in page.run(shown)


def test_paper_keeps_fills_and_loses_no_column(opened):
    page = opened(whole(), dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("getComputedStyle(document.querySelector('.bar')).printColorAdjust") == "exact"
    cut = page.run(
        "[...document.querySelectorAll('table')].filter((each) => each.scrollWidth > 701).map((each) => each.textContent.slice(0, 40))"
    )
    assert cut == []
    # What scripts draw has the paper's width and light colours.
    assert page.run("document.querySelector('.printed').width") <= 700
    assert page.run("document.getElementById('arcs').getAttribute('width') <= 700")
    assert page.run(PALE) == []
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('.printed').length") == 0
    page.call("Emulation.setEmulatedMedia", media="screen", features=[])
    printed = base64.b64decode(page.call("Page.printToPDF", printBackground=False)["data"])
    assert re.match(rb"%PDF", printed)

"""How the page looks in a real browser: what stands where, what is told from what, at four widths and on paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from made_up_results import made_up_results, with_evidence
from made_up_trace import made_up_trace

from svdtrace.report import render

pytestmark = pytest.mark.whole

LOOK = Path(__file__).with_name("look.js")
VIEWS = [(1440, 900, False), (1024, 768, True), (390, 844, False), (320, 640, True)]
IDS = ["1440", "1024 dark", "390", "320 dark"]
PAPER = 700


@cache
def whole() -> str:
    return render(with_evidence(made_up_trace()), made_up_results())


@pytest.fixture
def looked(opened) -> Callable[..., Any]:
    """Opens a page of everything, or another one, with `look` at hand."""

    def looked(html: str | None = None, **view: Any) -> Any:
        page = opened(whole() if html is None else html, **view)
        page.run(LOOK.read_text(encoding="utf-8"))
        return page

    return looked


@pytest.mark.parametrize(("width", "height", "dark"), VIEWS, ids=IDS)
def test_nothing_overlaps_breaks_pales_or_leaves_its_place(looked, width, height, dark):
    page = looked(width=width, height=height, dark=dark)
    assert page.problems == []
    assert page.run("document.documentElement.scrollWidth") <= width
    # The circuit is in the first view, and all of it in its frame.
    assert page.run("look.box('#frame').top") < 0.7 * height
    assert min(page.run("look.room()")) >= 0
    if width >= 390:
        assert page.run("document.querySelector('#prompts table').scrollWidth") <= width
    for kind in ("crossings", "overlaps", "broken", "pale"):
        assert page.run(f"look.{kind}()") == [], kind


def test_fit_brings_all_of_the_circuit_back(looked):
    page = looked(width=390, height=844)
    page.run("for (let i = 0; i < 4; i += 1) document.getElementById('zoom-in').click()")
    page.settle()
    assert min(page.run("look.room()")) < 0
    page.run("document.getElementById('zoom-fit').click()")
    page.settle()
    assert min(page.run("look.room()")) >= 0


def test_the_cells_of_the_heat_map_stand_in_rows_whether_heads_fired_or_not(looked):
    rows = looked().run(
        "[...document.querySelectorAll('#map tbody tr')].map((row) => [...row.querySelectorAll('.cell')].map((cell) => "
        "[cell.disabled, Math.round(cell.getBoundingClientRect().top), Math.round(cell.offsetHeight)]))"
    )
    assert any(disabled for row in rows for disabled, *_ in row)
    assert all(len({(top, height) for _, top, height in row}) == 1 for row in rows)


def test_what_the_pointer_is_on_is_lit_and_told(looked):
    page = looked(render(made_up_trace(injected=True)))
    x, y = page.run("look.loneliest()")
    # A pointer that never moved is on nothing.
    for step in (0, 1):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
    page.settle()
    told = page.run("document.getElementById('tip').textContent")
    assert all(word in told for word in ("→", "query side", "total weight", "of what heads wrote", "of 12 prompts")), (
        told
    )
    lit, dimmed = page.run("['.lit', '.dimmed'].map(look.drawn)")
    assert lit >= 3
    assert dimmed > lit
    assert page.run("document.querySelectorAll('#tip *:not(p, b)').length") == 0
    frame, tip = page.run("['#frame', '#tip'].map(look.box)")
    assert frame["left"] <= tip["left"]
    assert tip["right"] <= frame["right"]
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    page.settle()
    assert page.run("document.getElementById('tip').hidden")
    assert page.problems == []


def test_the_legend_names_every_look_that_is_drawn_and_no_other(looked):
    page = looked()
    shown = "[...document.querySelectorAll('#legend li:not([hidden])')].map((each) => each.textContent).join(';')"
    words = page.run(shown)
    assert "the wider, the larger its total weight" in words
    assert all(word in words for word in ("query side", "key side", "fainter", "at work", "a head", "picked"))
    assert ("a root" in words) == (page.run("look.drawn('node.root')") > 0)
    assert ("another writer" in words) == (page.run("look.drawn('node.other')") > 0)
    page.run("document.getElementById('rank').value = 'share'")
    page.run("document.getElementById('rank').dispatchEvent(new Event('input'))")
    page.settle()
    assert "the larger its median share" in page.run(shown)


def test_paper_keeps_fills_and_loses_nothing(looked):
    page = looked(dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("getComputedStyle(document.querySelector('.bar')).printColorAdjust") == "exact"
    assert page.run(f"look.cut({PAPER + 1})") == []
    # What scripts draw has the paper's width and light colours.
    assert 0 < page.run("document.querySelector('.printed').width") <= PAPER
    assert page.run("Number(document.getElementById('arcs').getAttribute('width'))") <= PAPER
    assert page.run("look.pale()") == []
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('.printed').length") == 0
    page.call("Emulation.setEmulatedMedia", media="screen", features=[])

"""How the circuit of one sentence looks: nothing stands on anything, and what is pointed at is told."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from made_up_trace import Size, closely, made_up_trace

from svdtrace.report import render

pytestmark = [pytest.mark.full, pytest.mark.whole]
LOOK = Path(__file__).with_name("look.js")
CROWDED = Size(prompts=1, layers=8, heads=12, d_head=16, noise=120, writers=6)


@cache
def crowded() -> str:
    return render(closely(made_up_trace(CROWDED)))


def looked(opened: Any, fragment: str = "", **view: Any) -> Any:
    page = opened(crowded(), fragment, **view)
    page.run(LOOK.read_text(encoding="utf-8"))
    return page


@pytest.mark.parametrize(("width", "height", "dark"), [(1440, 900, False), (1024, 768, True), (390, 844, False)])
@pytest.mark.parametrize("fragment", ["#lines=40", "#lines=150&see=7.3@14:4", "#lines=500"])
def test_no_words_stand_on_one_another_and_lines_go_around_nodes(opened, fragment, width, height, dark):
    page = looked(opened, fragment, width=width, height=height, dark=dark)
    assert page.problems == []
    assert page.run("document.querySelectorAll('#sentence-stage .way').length") > 20
    assert page.run("look.stacked('#sentence-stage')") == []
    assert page.run("look.through()") == []
    assert page.run("look.beyond('#sentence-stage')") == []
    assert page.run("look.pale()") == []
    assert page.run("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def page(opened_once) -> Any:
    return looked(opened_once, "#lines=40")


def point(page: Any, x: float, y: float) -> None:
    for step in (0, 1):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
    page.settle()


def test_what_is_pointed_at_is_lit_with_its_neighbours_and_told(page):
    x, y = page.run("look.middle('#sentence-stage [data-spot=\"7.3@14\"]')")
    point(page, x, y)
    told = page.run("document.getElementById('sentence-tip').textContent")
    for each in ("7.3 at “ to” (end)", "looks at", "reads", "weight"):
        assert each in told
    lit = page.run("[...document.querySelectorAll('.spot.lit')].map((each) => each.dataset.spot)")
    touching = page.run(
        "[...new Set([...document.querySelectorAll('.way')].map(({ dataset }) => [dataset.from, dataset.to])"
        ".filter((ends) => ends.includes('7.3@14')).flat())]"
    )
    assert sorted(lit) == sorted(touching)
    line = page.run(
        "(() => { const way = document.querySelector('.way.lit'); const path = way.querySelector('.seen'); "
        "const at = path.getPointAtLength(path.getTotalLength() / 2); const m = path.getScreenCTM(); "
        "const where = { bubbles: true, clientX: m.a * at.x + m.e, clientY: m.d * at.y + m.f }; "
        "way.dispatchEvent(new PointerEvent('pointermove', where)); "
        "return document.getElementById('sentence-tip').textContent; })()"
    )
    for each in ("→", "side", "weight ", "of what heads wrote to that side"):
        assert each in line
    point(page, 5, 5)
    assert page.run("document.getElementById('sentence-tip').hidden")
    assert page.run("document.querySelectorAll('.lit').length") == 0


def test_zooming_keeps_what_is_picked_in_the_middle_and_fit_shows_all(page):
    click = "dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    page.run(f"document.querySelector('#sentence-stage [data-spot=\"7.3@14\"]').{click}")
    page.settle()
    for _ in range(5):
        page.run("document.getElementById('sentence-in').click()")
    frame = page.run("look.box('#sentence-frame')")
    x, y = page.run("look.middle('#sentence-stage .spot.picked')")
    assert abs(x - (frame["left"] + frame["width"] / 2)) < 0.3 * frame["width"]
    assert frame["top"] < y < frame["bottom"]
    page.run("document.getElementById('sentence-fit').click()")
    stage = page.run("look.box('#sentence-stage')")
    assert stage["width"] <= frame["width"]
    assert stage["height"] <= frame["height"]


def test_a_drag_moves_the_drawing_and_picks_nothing(page):
    for _ in range(6):
        page.run("document.getElementById('sentence-in').click()")
    before = page.run("[document.getElementById('sentence-frame').scrollLeft, location.hash]")
    x, y = page.run("look.middle('#sentence-frame')")
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1, clickCount=1)
    for step in (20, 60, 120):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y, button="left", buttons=1)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 120, y=y, button="left", clickCount=1)
    page.settle()
    after = page.run("[document.getElementById('sentence-frame').scrollLeft, location.hash]")
    assert after[0] == pytest.approx(before[0] - 120, abs=3)
    assert after[1] == before[1]


def test_search_finds_heads_tokens_and_singular_vectors(page):
    def found(query: str) -> list[str]:
        page.run(
            f"(() => {{ const field = document.getElementById('sentence-find'); field.value = {query!r}; "
            "field.dispatchEvent(new Event('input')); })()"
        )
        return page.run("[...document.querySelectorAll('#sentence-found button')].map((each) => each.textContent)")

    assert all(each.startswith("7.3 ") for each in found("7.3"))
    assert all(" ring" in each for each in found("ring"))
    assert all("(IO)" in each for each in found("7. io"))
    assert all(each.endswith("vector 2") for each in found("v2"))
    assert found("nothing like it") == []
    assert found("7.3 end")
    page.run("document.getElementById('sentence-find').focus()")
    page.press("Enter")
    page.settle()
    assert page.run("location.hash").find("see=7.3%4014") > 0
    assert page.run("document.getElementById('sentence-found').hidden")


def test_many_lines_are_thinned_with_a_word_about_it(opened):
    page = looked(opened, "#lines=500")
    thin, shown = page.run(
        "[document.querySelectorAll('.way.thin').length, document.getElementById('sentence-shown').textContent]"
    )
    assert thin > 50
    assert f"the {thin} weakest are thin" in shown

"""The page in a real browser: what it shows, what it never does."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from made_up_trace import GPT2, INJECTIONS, Size, made_up_trace, repeated

from svdtrace.report import render


@cache
def small() -> str:
    return render(made_up_trace())


def values(page: Any, column: int) -> list[str]:
    """The cells of a column of the edges' table."""
    return page.run(f"[...document.querySelectorAll('#edges-body tr')].map((row) => row.cells[{column}].textContent)")


def click(page: Any, selector: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).click()")
    page.settle()


def set_input(page: Any, name: str, value: str) -> None:
    page.run(
        f"(() => {{ const control = document.getElementById({name!r}); control.value = {json.dumps(value)}; "
        "control.dispatchEvent(new Event('input', { bubbles: true })); control.dispatchEvent(new Event('change')); })()"
    )
    page.settle()


# Two views of every kind of trace, the others from end to end.
OTHERS = [pytest.mark.whole]


@pytest.mark.parametrize(
    ("width", "dark"),
    [(1440, False), (390, True), *(pytest.param(width, False, marks=OTHERS) for width in (390, 320))],
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"injected": True}, {"roles": False}, {"empty": True}],
    ids=["plain", "injected", "no roles", "empty"],
)
def test_opens_without_a_word_from_the_console_a_request_or_a_sideways_scroll(opened, changes, width, dark):
    page = opened(render(made_up_trace(**changes)), width=width, dark=dark)
    assert page.run("document.documentElement.classList.contains('ready')"), page.problems
    assert page.problems == []
    assert [request for request in page.requests if not request.startswith(("file:", "data:"))] == []
    assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.whole
def test_markup_among_tokens_roles_and_ids_stays_text(opened):
    page = opened(render(made_up_trace(injected=True)), "#prompt=0&show=all&token=5&pick=0.1:4.3@<i>verb</i>/dest")
    texts = page.run("[...document.querySelectorAll('#tokens .text')].map((each) => each.textContent)")
    assert texts[5:9] == [re.sub("\t", "⇥", re.sub("[\n\u2028]", "⏎", text)) for text in INJECTIONS]
    assert "<i>verb</i>" in page.run("document.getElementById('tokens').textContent")
    assert "<u>ioi-0" in page.run("document.getElementById('prompt-facts').textContent")
    assert page.run("document.querySelectorAll('img, u, i:not(.legend i), script[src], iframe').length") == 0
    assert page.run("document.title").startswith("svdtrace: 12 prompts")
    assert page.problems == []


@pytest.mark.whole
def test_a_click_on_a_column_sorts_by_it_and_another_click_turns_the_order(opened):
    page = opened(small())
    assert values(page, 7) == sorted(values(page, 7), key=float, reverse=True)
    click(page, "#edges-head [data-key=weight]")
    falling = [float(value) for value in values(page, 6)]
    assert len(falling) == 25
    assert falling == sorted(falling, reverse=True)
    click(page, "#edges-head [data-key=weight]")
    rising = [float(value) for value in values(page, 6)]
    assert rising == sorted(rising)
    assert rising != falling[::-1]
    assert page.run("document.querySelector('#edges-head th:nth-child(7)').getAttribute('aria-sort')") == "ascending"
    click(page, "#edges-head [data-key=reader]")
    readers = [tuple(map(int, value.split("."))) for value in values(page, 1)]
    assert readers == sorted(readers)


@pytest.mark.whole
def test_the_table_filters_by_words_and_turns_its_pages(opened):
    page = opened(small())
    first = values(page, 0)
    click(page, "#edges-next")
    assert page.run("document.getElementById('edges-page').textContent").startswith("page 2 of")
    assert values(page, 0) != first
    set_input(page, "filter", "4.3 end dest")
    rows = list(zip(values(page, 0), values(page, 1), values(page, 2), values(page, 3), strict=True))
    assert rows
    assert all("4.3" in (writer, reader) and role == "end" and side == "dest" for writer, reader, role, side in rows)
    assert page.run("document.getElementById('edges-page').textContent").startswith("page 1 of")
    set_input(page, "filter", "9.9")
    assert values(page, 0) == []
    assert page.run("document.getElementById('edges-count').textContent") == "no connection fits the filter"


@pytest.mark.whole
def test_the_circuit_starts_with_forty_connections_and_its_controls_narrow_it(opened):
    page = opened(small())
    shown = "document.getElementById('shown').textContent"
    all_of_them = page.run("JSON.parse(document.getElementById('data').textContent).connections.side.length")
    assert page.run(shown) == f"40 connections of {all_of_them} that pass the filters"
    set_input(page, "n", "12")
    assert page.run(shown).startswith("12 connections")
    set_input(page, "side", "src")
    set_input(page, "min", "100")
    data = page.run("JSON.parse(document.getElementById('data').textContent).connections")
    fitting = sum(side == 1 and many == 12 for side, many in zip(data["side"], data["prompts"], strict=True))
    assert page.run(shown) == f"12 connections of {fitting} that pass the filters"
    set_input(page, "focus", "4.6")
    readers = sum(
        side == 1 and many == 12 and (layer, head) == (4, 6)
        for side, many, layer, head in zip(data["side"], data["prompts"], data["layer"], data["head"], strict=True)
    )
    assert f" of {readers} that pass" in page.run(shown)
    click(page, "#reset")
    assert page.run(shown) == f"40 connections of {all_of_them} that pass the filters"


@pytest.mark.whole
def test_the_address_reproduces_what_is_in_view(opened):
    page = opened(small())
    set_input(page, "n", "25")
    set_input(page, "prompt-select", "3")
    click(page, "#edges-head [data-key=prompts]")
    click(page, "#edges-next")
    click(page, "#edges-body button")
    click(page, "#map [data-key='3.1']")
    click(page, "#tokens [data-token='10']")
    shows = (
        "[document.getElementById('shown').textContent, document.getElementById('edges-body').textContent, "
        "document.getElementById('details').textContent, document.getElementById('sizes').textContent, "
        "document.getElementById('prompt-facts').textContent, document.getElementById('prompt-edges').textContent]"
    )
    before, fragment = page.run(shows), page.run("location.hash")
    assert len(fragment) > 1
    assert opened(small(), fragment).run(shows) == before
    assert opened(small()).run(shows) != before


@pytest.mark.whole
def test_the_page_can_be_used_from_the_keyboard(opened):
    page = opened(small())
    page.run("document.getElementById('frame').focus()")
    page.press("ArrowUp")
    page.settle()
    assert page.run("document.querySelector('#details h3').textContent").startswith("4.")
    first = page.run("location.hash")
    page.press("ArrowDown")
    page.settle()
    assert page.run("location.hash") not in ("", first)
    page.press("Enter")
    assert page.run("document.activeElement.id") == "details"
    page.press("Tab")
    page.press("Enter")
    page.settle()
    assert "→" in page.run("document.querySelector('#details h3').textContent")
    page.run("document.querySelector('#map .cell[tabindex=\"0\"]').focus()")
    page.press("ArrowDown")
    page.press("Enter")
    page.settle()
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert page.problems == []


@pytest.mark.whole
def test_every_control_has_a_name(opened):
    page = opened(small())
    named = "each.textContent.trim() || each.ariaLabel || each.getAttribute('aria-labelledby') || each.labels?.length"
    controls = "document.querySelectorAll('button, input, select, a, [tabindex=\"0\"]')"
    nameless = page.run(f"[...{controls}].filter((each) => !({named})).map((each) => each.outerHTML)")
    assert nameless == []


@pytest.mark.whole
def test_no_two_elements_share_an_id_and_every_reference_leads_somewhere(opened):
    page = opened(small())
    ids = page.run("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    named = page.run(
        "[...document.querySelectorAll('[aria-labelledby], [aria-describedby], [for], [list]')].flatMap((each) => "
        "['aria-labelledby', 'aria-describedby', 'for', 'list'].map((name) => each.getAttribute(name)).filter(Boolean))"
    )
    assert set(named) <= set(ids)


@pytest.mark.whole
def test_a_trace_without_firings_says_so(opened):
    page = opened(render(made_up_trace(empty=True)))
    assert page.run("document.querySelector('h1').textContent") == "No firing is traced"
    assert "lower --threshold (now 0.5)" in page.run(
        "document.querySelector('.notice:not([hidden]), main .notice').textContent"
    )
    assert page.run("document.querySelectorAll('#circuit, #edges, #heads, #dimensions').length") == 0
    assert page.run("document.querySelectorAll('#tokens li').length") == 16


@pytest.mark.full
def test_a_thousand_prompts_make_a_page_below_five_megabytes_that_is_usable_within_two_seconds(opened):
    trace = repeated(made_up_trace(Size(**{**vars(GPT2), "prompts": 250})), 4)
    html = render(trace)
    assert len(html.encode()) < 5_000_000
    page = opened(html)
    assert page.problems == []
    assert page.seconds < 2
    assert page.run("document.querySelectorAll('#prompt-select option').length") > 500

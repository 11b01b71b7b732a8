"""Pinned nodes are a subgraph that can be named and grouped, and that an address brings back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest
from made_up_trace import Size, closely, made_up_trace

from svdtrace.report import render

pytestmark = [pytest.mark.full, pytest.mark.whole]


@cache
def one() -> str:
    return render(closely(made_up_trace(Size(prompts=1))))


def pinned(page: Any) -> list[str]:
    return page.run("[...document.querySelectorAll('#sentence-stage .spot.pinned')].map((each) => each.dataset.spot)")


def drawn(page: Any, part: str = "#sentence-pins") -> list[str]:
    return page.run(f"[...document.querySelectorAll('{part} .unit')].map((each) => each.textContent)")


def test_nodes_are_pinned_grouped_and_named_and_the_address_keeps_it(opened):
    page = opened(one())
    press = "dispatchEvent(new MouseEvent('click', { bubbles: true, shiftKey: true }))"
    heads = "[...document.querySelectorAll('#sentence-stage .spot.head:not(.silent)')]"
    nodes = page.run(f"{heads}.map((each) => each.dataset.spot).slice(0, 3)")
    for node in nodes:
        page.run(f"document.querySelector('[data-spot=\"{node}\"]').{press}")
    assert sorted(pinned(page)) == sorted(nodes)
    assert len(drawn(page)) == 3
    for node in nodes[:2]:
        page.run(
            f"(() => {{ const field = document.querySelector('[data-key=\"group {node}\"]'); field.value = 'both'; "
            "field.dispatchEvent(new Event('change')); })()"
        )
    assert sum(text.startswith("both") for text in drawn(page)) == 1
    assert len(drawn(page)) == 2
    page.run(
        "(() => { const field = document.querySelector('#sentence-pins [data-key=\"name\"]'); field.value = 'Mine'; "
        "field.dispatchEvent(new Event('change')); })()"
    )
    page.settle()
    address = page.run("location.hash")
    again = opened(one(), address)
    assert sorted(pinned(again)) == sorted(nodes)
    assert again.run("document.querySelector('#sentence-pins [data-key=\"name\"]').value") == "Mine"
    assert len(drawn(again)) == 2
    again.run(f"document.querySelector('[data-key=\"unpin {nodes[2]}\"]').click()")
    assert sorted(pinned(again)) == sorted(nodes[:2])
    again.run("document.querySelector('#sentence-pins [data-key=\"none\"]').click()")
    assert again.run("document.getElementById('sentence-pins').hidden")
    assert again.problems == []


def test_a_groups_line_is_the_sum_of_its_members(opened):
    """Catches lines of one member alone, and lines from nodes that are not pinned."""
    rows = made_up_trace(Size(prompts=1)).edges.to_pylist()
    ends = [(f"{row['writer']}@{row['token']}", f"{row['layer']}.{row['head']}@{row['dest']}", row) for row in rows]
    group = ["4.3@14", "4.6@14"]
    writer = next(writer for writer, reader, _ in ends if reader == group[0] and writer not in group)
    others = [name for name, reader, _ in ends if reader == group[1] and name not in (writer, *group)][:1]
    sources = [writer, *others]
    wanted: dict[str, float] = {}
    for name, reader, row in ends:
        if name in sources and reader in group:
            wanted[row["side"]] = wanted.get(row["side"], 0.0) + row["weight"]
    page = opened(one(), f"#pins={quote(json.dumps(['Movers', 0, [['end', *group], ['below', *sources]]]))}")
    assert [text[:5] for text in drawn(page)] == ["end4.", "below"]
    lines = "[...document.querySelectorAll('#sentence-pins .on-line')]"
    labels = page.run(f"{lines}.map((each) => [each.classList[1], each.textContent])")
    assert {side: float(text) for side, text in labels} == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "7",
        '["a"]',
        '["a", 0, [[1, 2]]]',
        '["<img src=x>", 0, [["<b>", "4.3@14", "4.3@999"]]]',
        '["a", 1, [["", "4.3@14"]]]',
    ],
)
def test_whatever_an_address_says_the_page_stands(opened, text):
    page = opened(one(), f"#pins={quote(text)}&kept={quote(text)}")
    assert page.problems == []
    assert page.run("document.querySelectorAll('.subgraph img, .subgraph b').length") == 0
    assert len(pinned(page)) == (1 if "<img" in text else 0)


def test_of_many_prompts_connections_are_pinned_at_both_ends_and_search_finds_them(opened):
    page = opened(render(made_up_trace()))
    page.run(
        "(() => { const field = document.getElementById('circuit-find'); field.value = '4.3 end v1'; "
        "field.dispatchEvent(new Event('input')); document.querySelector('#circuit-found button').click(); })()"
    )
    page.run("document.querySelector('#details [data-key=\"pin\"]').click()")
    page.settle()
    units = drawn(page, "#circuit-pins")
    assert len(units) == 2
    assert "4.3 at end" in units
    assert page.run("document.querySelectorAll('#circuit-pins .way.dest, #circuit-pins .way.src').length") >= 1
    assert page.run("document.getElementById('stage')._cyreg.cy.nodes('.pinned').length") == 2
    assert "kept=" in page.run("location.hash")
    assert page.problems == []

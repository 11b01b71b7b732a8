"""The circuit of one sentence on the page: its own tokens, what leads to the last, and a card for what is picked."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from made_up_results import made_up_results, with_evidence
from made_up_trace import Size, closely, made_up_trace

from svdtrace.report import render
from svdtrace.tracing.tables import PROMPTS

pytestmark = pytest.mark.whole

ONE = Size(prompts=1)


@cache
def one(injected: bool = False, relative: bool = False) -> str:
    return render(closely(made_up_trace(ONE, injected=injected), relative))


def with_effects() -> str:
    trace = closely(made_up_trace(ONE))
    rows = [
        row | {"root_effects": [("4.3", 2.5), ("4.6", -0.5)], "target": 1, "target_string": " Mary"}
        for row in trace.prompts.to_pylist()
    ]
    return render(replace(trace, prompts=type(trace.prompts).from_pylist(rows, schema=PROMPTS)))


def at_last() -> list[dict[str, Any]]:
    """The firings of the one prompt at its last token."""
    rows = made_up_trace(ONE).firings.to_pylist()
    return [row for row in rows if row["dest"] == max(each["dest"] for each in rows)]


def card(page: Any) -> str:
    return page.run("document.getElementById('card').textContent")


@pytest.mark.parametrize(("width", "height", "dark"), [(1440, 900, False), (1024, 768, True), (390, 844, False)])
def test_one_prompt_begins_with_its_own_tokens(opened, width, height, dark):
    page = opened(one(), width=width, height=height, dark=dark)
    assert page.problems == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('#sentence-frame').getBoundingClientRect().top") < 0.5 * height
    first = "document.getElementById('sentence').compareDocumentPosition(document.getElementById('circuit'))"
    assert page.run(f"{first} & Node.DOCUMENT_POSITION_FOLLOWING") > 0
    names = page.run("[...document.querySelectorAll('#sentence-stage .token-name')].map((each) => each.textContent)")
    assert len(names) == 16
    assert names[0].startswith("0: Then")
    assert names[4].startswith("4: ")
    assert "IO" in names[4]
    assert page.run("document.querySelectorAll('#sentence-stage .way').length") > 10
    assert "The strongest way" in card(page)
    assert "--roots logit or --roots probability" in page.run("document.getElementById('sentence-output').textContent")
    all_lines = int(
        re.search(r"of (\d+) that lead", page.run("document.getElementById('sentence-shown').textContent"))[1]
    )
    assert page.run("Number(document.getElementById('lines').max)") == max(5, all_lines)
    row = max(at_last(), key=lambda each: (each["layer"], each["pattern"]))
    looks = rf"{row['layer']}.{row['head']} at “to” looks at “.+” through {row['size']} of 16 dimensions"
    assert re.fullmatch(looks, page.run("document.querySelector('h1').textContent.trim()"))


def test_a_head_and_a_line_show_their_card(opened):
    page = opened(one())
    click = "dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    page.run(f"document.querySelector('#sentence-stage [data-spot=\"4.3@14\"]').{click}")
    page.settle()
    assert page.run("location.hash").startswith("#see=4.3%4014%3A4")
    said = card(page)
    for each in ("4.3 at “ to” (end)", "Where it looks", "Through what", "Query side", "Key side", "not asked"):
        assert each in said
    page.run("document.querySelector('#card button.line').click()")
    page.settle()
    assert "→ 4.3" in page.run("document.querySelector('#card h3').textContent")
    assert "This line" in card(page)
    assert page.run("document.querySelectorAll('#sentence-stage .way.picked').length") == 1
    assert page.run("document.querySelectorAll('#sentence-stage .on-line').length") == 1
    assert page.problems == []


def test_relative_attention_shows_scores_paths_and_rivals(opened):
    page = opened(one(relative=True), "#see=4.3@14:4")
    said = card(page)
    assert "beyond an even share" in said
    assert "at rivals" in said
    titles = page.run("[...document.querySelectorAll('#card thead th')].map((each) => each.textContent)")
    assert {"Score", "M"} <= set(titles)


def test_effects_lead_into_the_output(opened):
    page = opened(with_effects())
    assert page.run("document.querySelectorAll('#sentence-stage .way.effect').length") == 2
    assert page.run("document.querySelectorAll('#sentence-stage .way.effect.against').length") == 1
    assert "on “ Mary”" in page.run("document.getElementById('sentence-output').textContent")
    assert "Mary" in page.run("document.querySelector('#sentence-stage .output').textContent")
    told = "Direct effect on “ Mary”: 2.5 logits, the largest of 2 heads."
    assert told in card(page)
    page.run("document.querySelector('#card button.line').click()")
    page.settle()
    assert told in card(page)
    faded = "[...document.querySelectorAll('#sentence-stage .effect.faded')].map((each) => each.dataset.from)"
    assert page.run(faded) == ["4.6@14"]
    # Nothing of the card is hidden below an edge.
    assert page.run("document.getElementById('card').scrollHeight - document.getElementById('card').clientHeight") <= 1


def test_markup_among_tokens_stays_text(opened):
    page = opened(one(injected=True), "#see=4.3@14:4")
    assert page.run("document.querySelectorAll('#sentence img, #sentence b, #sentence script').length") == 0
    assert page.run("document.title").startswith("svdtrace: 1 prompt")
    assert page.problems == []


def test_it_can_be_used_from_the_keyboard(opened):
    page = opened(one())
    page.run("document.getElementById('sentence-frame').focus()")
    page.press("ArrowUp")
    page.settle()
    first = page.run("location.hash")
    assert first.startswith("#see=4.")
    page.press("ArrowDown")
    page.settle()
    assert page.run("location.hash") not in ("", first)
    page.press("Enter")
    assert page.run("document.activeElement.id") == "card"


def test_of_many_prompts_roles_come_first_and_a_sentence_is_one_click_away(opened):
    page = opened(render(closely(made_up_trace())))
    order = "[...document.querySelectorAll('main > section')].map((each) => each.id).slice(0, 2)"
    assert page.run(order) == ["circuit", "sentence"]
    page.run("document.documentElement.style.scrollBehavior = 'auto'")
    page.run("document.querySelector('nav a[href=\"#sentence\"]').click()")
    page.run(
        "(() => { const select = document.getElementById('sentence-select'); select.value = '3'; "
        "select.dispatchEvent(new Event('change')); })()"
    )
    page.settle()
    assert page.run("document.getElementById('prompt-select').value") == "3"
    assert page.run("document.getElementById('sentence').getBoundingClientRect().top") < 450
    assert page.problems == []


def test_cards_tell_what_was_asked_and_later_prompts_what_they_lack(opened):
    page = opened(render(with_evidence(made_up_trace()), made_up_results()), "#see=4.3@14:4")
    assert "kept of the first prompts alone" in card(page)
    assert "not asked" not in card(page) or "Taken away" in card(page)
    assert page.problems == []

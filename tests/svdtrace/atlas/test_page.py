"""The page of an atlas: it loads nothing, and no token can become markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from small_model import jax_model, small_model

from svdtrace.atlas import write_atlas

pytestmark = pytest.mark.whole

EVIL = "</script><img src=x onerror=alert(1)>"


class Tokenizer:
    """Calls every token the same bad name."""

    def strings(self, ids: Iterable[int]) -> list[str]:
        return [EVIL for _ in ids]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = jax_model(*small_model(5, n_layers=3, n_heads=2, d_model=16))
    folder = tmp_path_factory.mktemp("page") / "atlas"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svdtrace.atlas.pictures.draw_all", lambda *_: None)
        write_atlas(replace(model, tokenizer=Tokenizer()), folder, token_vectors=2)
    return (folder / "atlas.html").read_text(encoding="utf-8")


def test_no_token_becomes_markup(page: str):
    assert EVIL not in page
    assert "<img" not in page
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert data["tokens"]["q"][3][0][0][0] == EVIL


def test_the_page_loads_nothing_and_allows_its_own_script_alone(page: str):
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; script-src &#39;sha256-{digest}&#39;;" in page


def test_what_the_page_shows_is_what_the_tables_hold(page: str):
    """Catches writers that are not in the order of their ranks, and a side or a reader exchanged."""
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert {side: [len(each) for each in readers] for side, readers in data["writers"].items()} == {
        side: [0, 0, 2, 2, 4, 4] for side in "qkv"
    }
    for readers in data["writers"].values():
        for reader, rows in enumerate(readers):
            assert {row[0] for row in rows} == set(range(reader // 2 * 2))
            assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    for strongest in data["strongest"]["q"][2]:
        many = len(strongest) // 2
        assert strongest[many:] == sorted(strongest[many:], reverse=True)


@pytest.mark.parametrize("width", [1440, 390])
def test_a_reader_chosen_shows_its_writers(page: str, opened: Callable[..., Any], width: int):
    """Catches scripts that fail, a choice that is not followed, a page wider than its window, and anything loaded."""
    browser = opened(page, "#reader=2.1&side=q", width)
    rows = "[...document.querySelectorAll('#writers-body tr')].map((row) => row.cells[1].textContent)"
    assert len(browser.run(rows)) == 4
    browser.run("document.querySelector('[data-key=\"1.0\"]').click()")
    browser.settle()
    assert sorted(browser.run(rows)) == ["0.0", "0.1"]
    assert browser.run("location.hash") == "#reader=1.0&side=q&shade=score"
    assert "the query of 1.0" in browser.run("document.getElementById('writers-title').textContent")
    assert EVIL in browser.run("document.getElementById('vectors-body').textContent")
    assert browser.run("document.images.length + document.scripts.length") == 2
    assert browser.run("document.documentElement.scrollWidth") == width
    assert not browser.problems
    assert all(each.startswith(("file:", "data:", "about:")) for each in browser.requests)

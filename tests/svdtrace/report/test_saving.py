"""What a reader takes along: drawings as SVG, PNG and on paper, tables as CSV, a view as a link."""

from __future__ import annotations

import csv
import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_up_trace import INJECTIONS, closely, made_up_trace

from svdtrace.report import render

pytestmark = [pytest.mark.full, pytest.mark.whole]
SVG = "{http://www.w3.org/2000/svg}"
CLICK = "document.querySelector('{} [data-key=\"{}\"]').click()"


@pytest.fixture(scope="module")
def page(opened_once) -> Any:
    return opened_once(render(closely(made_up_trace(injected=True))), "#see=4.3@14:4&prompt=0")


@pytest.fixture
def saved(page, tmp_path: Path) -> Callable[[str, str], bytes]:
    """Clicks a button of some part of the page, and gives what it saves."""
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))

    def saved(part: str, key: str) -> bytes:
        before = set(tmp_path.iterdir())
        page.run(CLICK.format(part, key))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            new = [path for path in set(tmp_path.iterdir()) - before if path.suffix != ".crdownload"]
            if new and new[0].stat().st_size:
                return new[0].read_bytes()
            page.settle()
        raise AssertionError(f"{key} saved nothing; {page.problems}")

    return saved


def texts(content: bytes) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(content).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("part", "names"),
    [("#sentence-under", {"4.3", "end to", "Then"}), ("#circuit-under", {"4.3", "end", "IO", "S2", "3"})],
)
def test_a_drawing_is_saved_with_its_text_as_text(saved, page, part, names):
    content = saved(part, "save SVG")
    root = ElementTree.fromstring(content)
    assert names <= set(texts(content))
    # Looks stand in the file itself; nothing in it acts or is loaded.
    kinds = {each.tag for each in root.iter()}
    wanted = {"svg", "g", "path", "rect", "text", "tspan", "title", "desc", "circle", "clipPath"}
    assert kinds <= {f"{SVG}{name}" for name in wanted}
    attributes = {name.rpartition("}")[2] for each in root.iter() for name in each.attrib}
    assert not {name for name in attributes if name.startswith("on") or name in ("href", "class", "style")}
    strokes = {(each.get("stroke") or "").replace(" ", "") for each in root.iter(f"{SVG}path")}
    assert {"rgb(0,114,178)", "rgb(213,94,0)"} <= strokes
    assert page.problems == []


def test_as_many_lines_are_saved_as_are_drawn(saved, page):
    """Catches lines that the file lacks, and the invisible ones that catch clicks."""
    drawn = page.run("document.querySelectorAll('#sentence-stage .way .seen').length")
    root = ElementTree.fromstring(saved("#sentence-under", "save SVG"))
    lines = [each for each in root.iter(f"{SVG}path") if each.get("fill") == "none"]
    assert len(lines) == drawn
    assert all(each.get("stroke") not in (None, "none", "rgba(0, 0, 0, 0)") for each in lines)
    root = ElementTree.fromstring(saved("#circuit-under", "save SVG"))
    lines = [each for each in root.iter(f"{SVG}path") if each.get("fill") == "none"]
    assert len(lines) == page.run("document.getElementById('stage')._cyreg.cy.edges().length")


@pytest.mark.parametrize("part", ["#sentence-under", "#circuit-under"])
def test_pixels_are_twice_as_many_as_the_drawing_has(saved, part):
    root = ElementTree.fromstring(saved(part, "save SVG"))
    content = saved(part, "save PNG")
    assert content.startswith(b"\x89PNG\r\n")
    size = struct.unpack(">II", content[16:24])
    assert size == pytest.approx([2 * float(root.get(name) or 0) for name in ("width", "height")], abs=2)
    # More than one colour: an SVG that a browser cannot draw gives an empty picture.
    assert len(content) > 5000


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def test_tables_are_saved_whole_and_hostile_tokens_are_text_in_them_too(saved):
    """Catches a table of which the page shown alone is saved, and tokens whose quotes or line breaks break rows."""
    edges = rows(saved("#edges-save", "csv edges"))
    assert len(edges) > 25
    assert {"4.3", "4.6"} <= {each["reader"] for each in edges}
    assert all(each["side"] in ("dest", "src") and float(each["total"]) for each in edges)
    tokens = rows(saved("#card", "csv tokens of 4.3@14:4"))
    assert [each["token"] for each in tokens][5:9] == list(INJECTIONS)
    assert sum(float(each["attention"]) for each in tokens) == pytest.approx(1, abs=0.01)
    writers = rows(saved("#card", "csv writers of 4.3@14:4"))
    assert {each["side"] for each in writers} == {"dest", "src"}
    firings = rows(saved("#prompt-firings", "csv firings of prompt 0"))
    assert all(each["head"] and 0 < float(each["attention"]) <= 1 for each in firings)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_link_copies_itself(page, allowed):
    """The newest view, before the browser's address has it; where clipboards are closed, in the old way."""
    page.run(
        "window.copied = ''; Object.defineProperty(navigator, 'clipboard', { configurable: true, value: { writeText: "
        f"async (text) => {{ if (!{str(allowed).lower()}) throw new Error('no'); window.copied = text; }} }} }});"
        "document.execCommand = () => { window.copied = document.activeElement.value; return true; };"
    )
    set_lines = (
        "const lines = document.getElementById('lines'); lines.value = 17; lines.dispatchEvent(new Event('input'))"
    )
    page.run(f"(() => {{ {set_lines} }})()")
    page.run(CLICK.format("#sentence-under", "save Link"))
    page.run("new Promise((done) => setTimeout(done, 50))")
    link = page.run("window.copied")
    assert link.startswith("file:")
    assert "see=4.3%4014%3A4" in link
    assert "lines=17" in link
    assert page.run("document.querySelector('#sentence-under [data-key=\"save Link\"]').textContent") == "Copied"


def test_paper_shows_one_section_alone_where_that_is_asked_for(page):
    page.run("window.print = () => { dispatchEvent(new Event('beforeprint')); window.asked = true; }")
    page.run(CLICK.format("#sentence-under", "save PDF"))
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    page.settle()
    parts = "[...document.querySelectorAll('main > *, nav, header, footer')]"
    shown = f"{parts}.filter((each) => each.offsetHeight).map((each) => each.id)"
    assert page.run("window.asked")
    assert page.run(shown) == ["sentence"]
    assert page.run("document.querySelector('#sentence-stage').getBoundingClientRect().width") <= 700
    printed = page.call("Page.printToPDF", printBackground=True)["data"]
    page.run("dispatchEvent(new Event('afterprint'))")
    page.call("Emulation.setEmulatedMedia", media="screen", features=[])
    page.settle()
    assert len(printed) > 10_000
    assert len(page.run(shown)) > 3

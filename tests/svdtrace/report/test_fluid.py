"""A drawing of 500 lines follows the pointer: what a frame of a pan costs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from made_up_trace import Size, closely, made_up_trace

from svdtrace.report import render

pytestmark = [pytest.mark.full, pytest.mark.whole]
FRAMES = 90
MILLISECONDS = 40.0
"""At most, of all the page's threads together, without a graphics card. A screen has 16; test machines are slow."""
PAN = """
new Promise((done) => {
  let frame = 0;
  const step = () => {
    (%s)(frame);
    frame += 1;
    if (frame < %d) requestAnimationFrame(step);
    else done(frame);
  };
  requestAnimationFrame(step);
})
"""
DRAG = """
(i) => {
  const stage = document.getElementById("stage");
  const { left, top } = stage.getBoundingClientRect();
  const at = { bubbles: true, clientX: left + 5 + 2 * i, clientY: top + 5 + i, buttons: 1, which: 1, view: window };
  if (i === 0) stage.querySelector("canvas").dispatchEvent(new MouseEvent("mousedown", at));
  dispatchEvent(new MouseEvent(i < 89 ? "mousemove" : "mouseup", at));
}
"""
SCROLL = "(i) => document.getElementById('sentence-frame').scrollTo({ left: 4 * i, top: 2 * i, behavior: 'instant' })"


@cache
def large() -> str:
    return render(closely(made_up_trace(Size(prompts=1, layers=12, heads=12, d_head=64, noise=150, writers=6))))


def cost(page: Any, step: str) -> float:
    """Milliseconds of computing a frame."""
    before = page.computing()
    assert page.run(PAN % (step, FRAMES)) == FRAMES
    return 1000 * (page.computing() - before) / FRAMES


def test_five_hundred_lines_of_a_sentence_follow_the_pointer(opened):
    page = opened(large(), "#lines=500")
    assert page.run("document.querySelectorAll('#sentence-stage .way').length") == 500
    assert cost(page, SCROLL) < MILLISECONDS


def test_five_hundred_connections_follow_the_pointer(opened):
    """Catches work on every element in every frame, which took 90 ms of each."""
    page = opened(large(), "#at=circuit&n=500&moves=no")
    graph = "document.getElementById('stage')._cyreg.cy"
    assert page.run(f"{graph}.edges().length") == 500
    assert page.run(f"{graph}.renderer().textureOnViewport")
    before = page.run(f"{graph}.pan()")
    assert cost(page, DRAG) < MILLISECONDS
    after = page.run(f"{graph}.pan()")
    assert after["x"] - before["x"] > 100

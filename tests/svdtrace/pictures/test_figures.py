"""Pictures: the same for the same trace, readable, and refused in one line where they cannot be written."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from made_up_trace import MadeUpTrace, Size, made_up_trace
from matplotlib.figure import Figure
from matplotlib.text import Text

from svdtrace.errors import OutputError
from svdtrace.pictures import figures

PICTURES = (figures.circuit_picture, figures.firings_per_head, figures.slice_sizes)


@pytest.fixture(scope="module")
def trace() -> MadeUpTrace:
    return made_up_trace(Size(prompts=30))


def drawn(make: Any, *arguments: Any) -> Figure:
    with matplotlib.rc_context(figures.STYLE):
        figure = make(*arguments)
        figure.draw_without_rendering()
        return figure


def texts(figure: Figure) -> list[Text]:
    return [each for each in figure.findobj(Text) if isinstance(each, Text) and each.get_text() and each.get_visible()]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("ending", [".svg", ".png", ".pdf"])
def test_the_same_trace_gives_the_same_bytes_and_leaves_no_setting_changed(picture, ending, trace, tmp_path):
    before = dict(matplotlib.rcParams)
    for name in ("one", "two"):
        picture(trace, tmp_path / f"{name}{ending}")
    content = (tmp_path / f"one{ending}").read_bytes()
    assert content == (tmp_path / f"two{ending}").read_bytes()
    assert b"dc:date" not in content
    assert b"CreationDate" not in content
    if ending == ".svg":
        assert b"</text>" in content, "text stays text"
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_shows_something_also_of_an_empty_trace(picture, trace, tmp_path):
    for shown in (trace, made_up_trace(empty=True)):
        picture(shown, tmp_path / "picture.png")
        assert np.ptp(matplotlib.image.imread(tmp_path / "picture.png")[..., :3]) > 0.5


def test_the_circuit_names_its_heads_roles_and_layers(trace):
    shown = [each.get_text() for each in texts(drawn(figures.circuit_figure, trace, 40))]
    for name in ("4.3", "1.2", "end", "S2", "layer", "0", "4"):
        assert name in shown
    assert any(each.startswith("40 strongest of ") for each in shown)


def test_the_legend_names_a_root_where_one_is_drawn_alone(trace):
    """Catches a legend that explains what is not there."""
    config = trace.manifest["config"]
    for roots, named in (("all", False), ("4.3@end:*", True)):
        rooted = replace(trace, manifest={**trace.manifest, "config": {**config, "roots": roots}})
        words = [text.get_text() for text in texts(drawn(figures.circuit_figure, rooted, 40))]
        assert ("a root" in words) == named
        assert "a head at work" in words


@pytest.mark.parametrize("strongest", [1, 40, 150])
@pytest.mark.parametrize("roles", [True, False])
def test_no_two_texts_of_the_circuit_overlap(strongest, roles):
    figure = drawn(figures.circuit_figure, made_up_trace(Size(prompts=10), roles=roles), strongest)
    boxes = [(each.get_text(), each.get_window_extent()) for each in texts(figure)]
    for (one, box), (other, second) in combinations(boxes, 2):
        assert not box.overlaps(second), (one, other)
    width, height = figure.get_size_inches() * figure.dpi
    for name, box in boxes:
        assert box.x0 >= 0, name
        assert box.x1 <= width, name
        assert box.y0 >= 0, name
        assert box.y1 <= height, name


def test_the_heat_map_writes_every_heads_firings(trace):
    shown = [each.get_text() for each in texts(drawn(figures._heat_map, trace))]
    layer, head = (trace.firings[name].to_numpy() for name in ("layer", "head"))
    for many in np.unique(layer * 100 + head, return_counts=True)[1]:
        assert str(many) in shown


def test_the_histogram_shows_all_firings_and_those_of_a_head(trace):
    axes = drawn(figures._histogram, trace, "4.3").axes[0]
    sizes = trace.firings["size"].to_numpy()
    mine = sizes[(trace.firings["layer"].to_numpy() == 4) & (trace.firings["head"].to_numpy() == 3)]
    for bars, values in zip(axes.containers, (sizes, mine), strict=True):
        for bar in bars:
            middle = round(bar.get_x() + bar.get_width() / 2)
            assert bar.get_height() == pytest.approx(100 * np.mean(values == middle))


@pytest.mark.parametrize("picture", PICTURES)
def test_another_ending_or_an_impossible_place_is_an_error_of_one_line(picture, trace, tmp_path):
    for path in (tmp_path / "picture.gif", tmp_path / "nowhere" / "picture.svg"):
        with pytest.raises(OutputError, match=Path(path).name) as error:
            picture(trace, path)
        assert "\n" not in str(error.value)

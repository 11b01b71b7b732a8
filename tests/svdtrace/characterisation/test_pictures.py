"""Every picture is drawn from the tables alone, also where there is nothing to show, the same each time."""

from __future__ import annotations

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.text import Text
from picture_faults import faults

from svdtrace.characterisation.pictures import PICTURES, draw_all
from svdtrace.characterisation.schemas import SCHEMAS
from svdtrace.pictures.style import STYLE


@pytest.fixture(scope="module")
def drawn(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw_all(found.tables, folder)
    return folder


@pytest.mark.full
def test_every_picture_is_there_in_both_forms(drawn):
    assert {path.name for path in drawn.iterdir()} == {f"{name}{end}" for name in PICTURES for end in (".svg", ".png")}
    for name in PICTURES:
        assert np.ptp(matplotlib.image.imread(drawn / f"{name}.png")[..., :3]) > 0.5


@pytest.mark.full
def test_the_same_tables_give_the_same_bytes(found, drawn, tmp_path):
    draw_all({name: table.slice(0) for name, table in found.tables.items()}, tmp_path)
    for name in PICTURES:
        assert (tmp_path / f"{name}.svg").read_bytes() == (drawn / f"{name}.svg").read_bytes()


@pytest.mark.whole
@pytest.mark.parametrize("name", PICTURES)
def test_axes_are_labelled_and_nothing_looks_wrong(name, found):
    with matplotlib.rc_context(STYLE):
        figure = PICTURES[name](found.tables)
        assert faults(figure) == {}
    said = [each.get_text() for each in figure.findobj(Text) if isinstance(each, Text)]
    wanted = {"tau": "τ", "sizes": "|S|", "firing_products": "singular vector k", "tokens": "mean norm"}
    assert any(wanted.get(name, "") in text for text in said)
    assert all(axes.get_title(loc="left") or axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes)


@pytest.mark.whole
@pytest.mark.parametrize("name", sorted(PICTURES))
def test_nothing_to_show_is_said(name, found):
    empty = {table: schema.empty_table() for table, schema in SCHEMAS.items()}
    # Heads have a row each, whether or not they fire, and so has τ.
    kept = {"heads", "tau"}
    figure = PICTURES[name]({**empty, **{each: found.tables[each] for each in kept}})
    assert figure.axes or figure.texts

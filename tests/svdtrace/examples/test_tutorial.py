"""The tutorial: kept without outputs, executed whole, a picture or a table below every cell that is to show one."""

from __future__ import annotations

import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread

from docs.tutorial import NOTEBOOK, as_page, executed

SHOWS = {"plot": "image/png", "why": "text/html", "trace": "text/html"}
"""What the last line of a cell calls or names, and what it shows."""


def shows(source: str) -> str | None:
    """What a cell is to show, by its last line."""
    last = source.splitlines()[-1]
    return next((kind for name, kind in SHOWS.items() if f".{name}" in last or last == name), None)


def test_it_is_kept_small_and_without_outputs() -> None:
    """Catches a notebook that was saved after running it."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum(shows(cell.source) is not None for cell in code) >= 8
    assert NOTEBOOK.stat().st_size < 20_000


def test_every_output_has_its_place_on_the_page(tmp_path: Path) -> None:
    """Catches pictures without a file, and empty lines that would end HTML within Markdown."""
    image = nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8="})
    table = nbformat.v4.new_output("display_data", {"text/html": "<table>\n\n<tr></tr></table>"})
    words = nbformat.v4.new_output("stream", text="words\n")
    cells = [
        nbformat.v4.new_markdown_cell("# Title, [a link](../../docs/METHOD.md)"),
        nbformat.v4.new_code_cell("draw()", outputs=[image, table, words]),
    ]
    page, pictures = as_page(nbformat.v4.new_notebook(cells=cells))
    assert pictures == {"tutorial-1.png": b"hello"}
    assert page == (
        "# Title, [a link](METHOD.md)\n\n```python\ndraw()\n```\n\n![What the cell above shows](tutorial-1.png)\n\n"
        '<div class="shown">\n<table>\n<tr></tr></table>\n</div>\n\n```text\nwords\n```\n'
    )


@pytest.mark.full
def test_it_runs_and_everything_comes_out() -> None:
    """Catches cells that fail or warn, and results that a kernel does not show, or shows empty."""
    notebook = executed(NOTEBOOK)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not [each.get("text") for each in cell.outputs if each.output_type == "stream"], cell.source
        kind = shows(cell.source)
        if kind is not None:
            (output,) = cell.outputs
            assert kind in output.data, cell.source
            assert len(output.data[kind]) > 2000, cell.source
    _, pictures = as_page(notebook)
    assert len(pictures) == 5
    for name, png in pictures.items():
        shades = imread(io.BytesIO(png))
        assert np.unique(shades.reshape(-1, shades.shape[-1]), axis=0).shape[0] > 20, name
        assert min(shades.shape[:2]) > 200, name

"""A notebook that is executed: results stand below their cells, and a bar is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

CELLS = [
    "import svdtrace, gpt2jax\n"
    "model = svdtrace.bundled_model()\n"
    "prompts = svdtrace.prompts.ioi(2, model.tokenizer)\n"
    "trace = svdtrace.trace(model, prompts, progress=True)",
    "trace",
    "trace.why(firing='3.2@end:IO')",
    "trace.plot()",
    "trace.graph()",
    "svdtrace.decompose(model)",
]


@pytest.mark.full
def test_results_show_themselves_in_a_notebook(tmp_path: Path):
    """Catches what a kernel cannot show, and outputs that are too large for a notebook."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells[1:]:
        (output,) = cell.outputs
        html = output["data"].get("text/html")
        if "plot" in cell.source:
            assert "image/png" in output["data"]
            continue
        assert 200 < len(html) < 100_000
        assert len(output["data"]["text/plain"]) < 200

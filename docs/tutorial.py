"""For the site: the tutorial, a notebook of svdtrace, is executed as the site is built and becomes a page of it."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

NOTEBOOK = Path(__file__).resolve().parent.parent / "svdtrace" / "examples" / "tutorial.ipynb"
PAGE = "tutorial.md"
SECONDS = 600
"""For one cell, on the slowest machine."""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """The site's files with the executed tutorial among them, its pictures as files beside it."""
    from mkdocs.structure.files import File

    page, pictures = as_page(executed(NOTEBOOK))
    files.append(File.generated(config, PAGE, content=page))
    for name, png in pictures.items():
        files.append(File.generated(config, name, content=png))
    return files


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, run by this Python in an empty folder.

    Raises:
        CellExecutionError: a cell that fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
    return notebook


def as_page(notebook: nbformat.NotebookNode) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows, by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace("](../../docs/", "]("))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tutorial-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell above shows]({name})")
            elif "text/html" in data:
                # An empty line would end the HTML for Markdown.
                lines = [line for line in data["text/html"].splitlines() if line.strip()]
                parts.append("\n".join(['<div class="shown">', *lines, "</div>"]))
            else:
                parts.append(f"```text\n{output.get('text', data.get('text/plain', '')).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures

"""The pages: every link to a file of the project leads to one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.outside import on_page_markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_site_gets_lists_apart_and_no_link_out_of_itself() -> None:
    """Catches lists and tables run into the text before them, and links to what the site does not hold."""
    code = "```\nText\n- code\n```"
    page = f"Text:\n1. one\n   more\n2. two\n| a |\n| - |\n[m.py](../m.py), [it](../gpt2jax/m.py)\n{code}"
    wanted = "Text:\n\n1. one\n   more\n2. two\n| a |\n| - |\n`m.py`, it (`gpt2jax/m.py`)\n"
    assert on_page_markdown(page) == wanted + code


@pytest.mark.full
@pytest.mark.timeout(900)
def test_every_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches options, names and files of the cookbook that are no more: all blocks, in its order, in one folder."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "docs" / "cookbook.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) > 10
    for language, block in blocks:
        command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*command, block], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

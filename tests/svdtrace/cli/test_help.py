"""Help speaks of the method, with a link that opens, and not of Python; commands and options can be completed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from svdtrace.cli import main
from svdtrace.cli.parser import COMMANDS
from svdtrace.cli.references import PAGES, SECTIONS
from svdtrace.surroundings.pages import page

ROOT = Path(__file__).resolve().parents[3]
OF_PYTHON = r"\b(None|True|False|INT|FLOAT|STR)\b"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_words_of_the_field_an_example_and_links_that_open(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setenv("COLUMNS", "80")
    out = said(capsys, command, "--help")
    assert not re.search(OF_PYTHON, out)
    text = out.split("╭", 1)[0]
    assert re.search(rf"^  svdtrace {command}( |$)", text, re.MULTILINE)
    links = dict(re.findall(r"(\S+\.md)[^\n]*:\n  (file://\S+)$", text, re.MULTILINE))
    expected = [*(["METHOD.md"] if command in SECTIONS else []), *([PAGES[command]] if command in PAGES else [])]
    assert {name: Path(unquote(urlparse(link).path)) for name, link in links.items()} == {
        name: page(name) for name in expected
    }
    # All but commands and links, which are to be copied, keeps to the terminal.
    assert all(len(line) <= 80 or line.startswith("  ") for line in out.splitlines())


def test_the_pages_that_are_named_are_there_and_installed():
    method = page("METHOD.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^## (\d+)\. ", method, re.MULTILINE))
    named = {number for told in SECTIONS.values() for number in re.findall(r"\d+", told)}
    assert named <= headings
    assert SECTIONS.keys() | PAGES.keys() <= set(COMMANDS)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in ("METHOD.md", "weights.md", *PAGES.values()):
        assert (ROOT / "docs" / name).is_file()
        assert installed[f"docs/{name}"] == f"svdtrace/docs/{name}"


def test_commands_and_options_can_be_completed(capsys: pytest.CaptureFixture[str]):
    script = said(capsys, "--tyro-print-completion", "bash")
    assert "complete -F" in script
    assert all(word in script for word in (*COMMANDS, "--coverage", "--roots"))

"""Help speaks of the method, with a link that opens, and not of Python; commands and options can be completed."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from svdtrace.cli import main
from svdtrace.cli.method_page import SECTIONS, method_page
from svdtrace.cli.parser import COMMANDS


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_no_types_of_python_and_a_link_that_opens(capsys: pytest.CaptureFixture[str], command: str):
    out = said(capsys, command, "--help")
    assert not re.search(r"\{None\}|\bNone\b|\|STR\b", out)
    link = re.search(r"METHOD\.md, ([^\n]*): (file://\S+)", out)
    assert (link is not None) == (command in SECTIONS)
    if link is not None:
        assert Path(unquote(urlparse(link[2]).path)) == method_page()


def test_the_page_has_the_sections_that_are_named():
    headings = set(re.findall(r"^## (\d+)\. ", method_page().read_text(encoding="utf-8"), re.MULTILINE))
    named = {number for told in SECTIONS.values() for number in re.findall(r"\d+", told)}
    assert named <= headings
    assert SECTIONS.keys() <= set(COMMANDS)


def test_commands_and_options_can_be_completed(capsys: pytest.CaptureFixture[str]):
    script = said(capsys, "--tyro-print-completion", "bash")
    assert "complete -F" in script
    assert all(word in script for word in (*COMMANDS, "--coverage", "--roots"))

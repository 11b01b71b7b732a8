"""docs/weights.md: what its commands print is what they print."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from svdtrace.bundled.model import bundled_folder
from svdtrace.surroundings.pages import page
from weights_tools.cli import COMMANDS, PAGES, SECTIONS, main
from weights_tools.cli import PAGE as PAGE_NAME

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
# Those that take long, or a network.
NOT_RUN = ("train", "download")


def shown() -> list[tuple[list[str], list[str]]]:
    """Every command of the page with the lines that stand below it."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"^```\n(\$ .*?)\n```$", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ weights-tools "):
                found.append((shlex.split(line)[2:], []))
            elif not line.startswith("$"):
                found[-1][1].append(line)
    return found


def test_every_command_has_an_example():
    assert {arguments[0] for arguments, _ in shown()} == set(COMMANDS)


def test_examples_print_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [path for path in bundled_folder().iterdir() if path.suffix in (".json", ".safetensors")]
    (tmp_path / "mymodel").mkdir()
    for path in files:
        shutil.copy(path, tmp_path / "mymodel" / path.name)
    for arguments, expected in shown():
        if arguments[0] in NOT_RUN:
            continue
        assert main(arguments) in (0, 1), arguments
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        if expected and expected[-1] == "…":
            expected, printed = expected[:-1], printed[: len(expected) - 1]
        assert printed == expected, arguments


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_links_that_open_and_no_types_of_python(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    text = out.split("╭", 1)[0]
    assert re.search(rf"^  weights-tools {command} ", text, re.MULTILINE)
    links = dict(re.findall(r"(\S+\.md)[^\n]*:\n  (file://\S+)$", text, re.MULTILINE))
    assert list(links) == (["METHOD.md"] if command in SECTIONS else []) + [PAGES.get(command, PAGE_NAME)]
    assert {Path(unquote(urlparse(link).path)) for link in links.values()} == {page(name) for name in links}
    assert not re.search(r"\b(None|True|False|INT|FLOAT|STR)\b", out)
    assert all(len(line) <= 80 or line.startswith("  ") for line in out.splitlines())


def test_commands_and_options_can_be_completed(capsys):
    assert main(["--tyro-print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "complete -F" in script
    assert all(word in script for word in (*COMMANDS, "--shard"))

"""`svdtrace why`: the card that it prints of a trace's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import svdtrace
from svdtrace.cli import main


def an_edge(traced: Path) -> tuple[str, dict]:
    row = max(svdtrace.read(traced).edges.to_pylist(), key=lambda row: row["weight"])
    return f"{row['writer']}:{row['layer']}.{row['head']}@{row['dest']}:{row['src']}/{row['side']}", row


def test_it_prints_the_card_that_python_gives(capsys: pytest.CaptureFixture[str], traced: Path):
    name, row = an_edge(traced)
    assert main(["why", str(traced), "--prompt", str(row["prompt"]), "--edge", name]) == 0
    out = capsys.readouterr().out
    card = svdtrace.read(traced).why(row["prompt"], name)
    # A long path is broken anywhere.
    assert "".join(out.split()).replace(str(traced), "trace") == "".join(str(card).split())
    assert card.firing.keys is not None
    assert main(["why", str(traced), "--prompt", str(row["prompt"]), "--edge", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mine = [each for each in told["writers"] if (each["name"], each["side"]) == (row["writer"], row["side"])]
    assert [each["weight"] for each in mine] == [row["weight"]]


def test_what_is_refused(capsys: pytest.CaptureFixture[str], traced: Path):
    name, _ = an_edge(traced)
    for arguments, said in (
        (["--edge", name, "--firing", "1.0@3"], "give one of them"),
        (["--with", str(traced)], 'its command is "trace"'),
        (["--prompt", "70"], "prompt 70 is not in the trace"),
    ):
        assert main(["why", str(traced), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line

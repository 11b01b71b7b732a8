"""Whatever standard streams a command was started with: what cannot be printed is dropped, the rest stays as it is."""

from __future__ import annotations

import errno
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from svdtrace import cli
from svdtrace.cli import main
from svdtrace.cli.terminal import console, print_json, table
from svdtrace.surroundings.streams import on_terminal, usable_streams
from weights_tools.cli import main as weights_tools

COMMAND = "import sys; from svdtrace.cli import main; sys.exit(main())"


class Refusing(io.TextIOWrapper):
    """A stream at which every write fails."""

    def __init__(self, number: int):
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "refused")


def printed(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print through a stream, as commands do."""
    monkeypatch.setattr(sys, "stdout", stream)
    with usable_streams():
        console().say("Δ ü")
        console().print(table("σ", ("a", "b"), [("[x]", ":smile:")]))


def test_a_stream_that_is_none_or_closed_or_gone_is_dropped(monkeypatch: pytest.MonkeyPatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Refusing(errno.EPIPE), Refusing(errno.EIO)):
        printed(stream, monkeypatch)
        assert sys.stdout is stream


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(OSError, match="refused"):
        printed(Refusing(errno.ENOSPC), monkeypatch)


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"? ?\n"), ("latin-1", b"? \xfc\n"), ("utf-8", "Δ ü\n".encode())]
)
def test_what_cannot_be_encoded_is_replaced(monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    printed(stream, monkeypatch)
    stream.flush()
    assert raw.getvalue().startswith(shown)
    assert b"[x]" in raw.getvalue()
    assert b":smile:" in raw.getvalue()


def test_json_loses_nothing_to_an_encoding(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with usable_streams():
        print_json({"name": "ü 😀"})
    assert json.loads(raw.getvalue()) == {"name": "ü 😀"}


@pytest.mark.parametrize("command", [main, weights_tools])
def test_wrong_options_without_streams(monkeypatch: pytest.MonkeyPatch, command):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert command(["nonsense"]) == 2
    assert command(["--help"]) == 0


def test_a_status_outlives_a_broken_pipe(monkeypatch: pytest.MonkeyPatch):
    def found_wanting(arguments: list[str]) -> int:
        console().say("a line that nobody reads")
        return 1

    monkeypatch.setattr(cli, "_run", found_wanting)
    monkeypatch.setattr(sys, "stdout", Refusing(errno.EPIPE))
    assert main([]) == 1


def test_a_dumb_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    assert not on_terminal(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert on_terminal(Terminal())
    assert not on_terminal(None)


def test_a_process_whose_streams_are_closed(tmp_path: Path):
    """Files that are opened must not take the place of a stream, where libraries write their messages."""
    code = "; main(['--version']); file = open('file', 'w'); file.write(str(file.fileno() > 2)); file.close(); "
    (tmp_path / "run.py").write_text(COMMAND.replace("; sys.exit", f"{code}sys.exit"))
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    script = f"cd {shlex.quote(str(tmp_path))}; {shlex.quote(sys.executable)} run.py --help <&- >&- 2>&-; echo $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "0\n"
    assert (tmp_path / "file").read_text() == "True"

"""What a refusal is: one line, status 2, nothing changed on disk, nothing compiled; in Python the same words."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import pytest
import tokenizers
from checkpoints.folders import CONFIG, tensors, write_folder
from tokenizers import models, pre_tokenizers

from gpt2jax.errors import GPT2JaxError
from svdtrace.cli import CANNOT, main, one_line
from svdtrace.errors import SvdtraceError
from svdtrace.surroundings.streams import visible

Content = bytes | str | dict[str, Any] | list[Any] | None
Files = Mapping[str, Content | Callable[[bytes], bytes]]
"""By path: what a file holds, or `None` for a file taken away, or what becomes of the content that it has."""

WORDS = ("Ma", "ry", "Mary", "ĠMary", "Jo", "hn", "John", "ĠJohn")
MERGES = (("M", "a"), ("r", "y"), ("Ma", "ry"), ("Ġ", "Mary"), ("J", "o"), ("h", "n"), ("Jo", "hn"), ("Ġ", "John"))
N_POSITIONS = 16
_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass(frozen=True)
class Case:
    """A command that must be refused.

    Attributes:
        name: what is wrong, as the test is called.
        arguments: of the command, which runs in a folder that holds `model`, a sound one.
        said: the beginning of what its line says after `error: `.
        files: what is changed in that folder before.
        given: what else is there before that.
        before: what else is done there before.
        python: the same through Python, which must say the same; none where the command line alone can ask for it.
        also: what the line must say further on, most often the way out.
    """

    name: str
    arguments: tuple[str, ...]
    said: str
    files: Files = field(default_factory=dict)
    given: Files = field(default_factory=dict)
    before: Callable[[], object] | None = None
    python: Callable[[], object] | None = None
    also: tuple[str, ...] = ()


def changed(**changes: Any) -> Callable[[bytes], bytes]:
    """A JSON object with some of its entries replaced."""
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def check(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a case in an empty folder, and hold what it says and does against what a refusal is."""
    lay_out(folder, case)
    if case.before is not None:
        case.before()
    before = snapshot(folder)
    capsys.readouterr()
    with no_compiling():
        status = main(case.arguments)
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n"), err[-1:]) == (CANNOT, "", 1, "\n"), err
    line = err.removesuffix("\n").removeprefix("error: ")
    assert err.startswith("error: ")
    assert line.startswith(case.said), line
    assert all(part in line for part in case.also), line
    assert all(character.isprintable() for character in line), line
    assert len(line) < 1300, line
    assert snapshot(folder) == before, "a refused command changes nothing on disk"
    if case.python is not None:
        with pytest.raises((SvdtraceError, GPT2JaxError)) as caught:
            case.python()
        assert one_line(caught.value) == line
        assert snapshot(folder) == before


def lay_out(folder: Path, case: Case) -> None:
    """Write the sound model and what else is given, then what a case changes."""
    sound = {f"model/{name}": content for name, content in sound_model().items()}
    for name, content in [*sound.items(), *case.given.items(), *case.files.items()]:
        path = folder / name
        if content is None:
            path.unlink()
        else:
            _write(path, content(path.read_bytes()) if callable(content) else as_bytes(content))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def as_bytes(content: bytes | str | dict[str, Any] | list[Any]) -> bytes:
    """A file's content: bytes and text as they are, lists as JSON lines, an object as JSON."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, list):
        return "".join(json.dumps(line) + "\n" for line in content).encode()
    return (content if isinstance(content, str) else json.dumps(content)).encode("utf-8", "surrogatepass")


@cache
def sound_model() -> dict[str, bytes]:
    """The files of a tiny model that knows a few words."""
    vocabulary = {token: n for n, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), *WORDS])}
    config = {
        **CONFIG,
        "n_layer": 2,
        "n_positions": N_POSITIONS,
        "vocab_size": len(vocabulary) + 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    library = tokenizers.Tokenizer(models.BPE(vocabulary, list(MERGES)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with TemporaryDirectory() as place:
        folder = write_folder(Path(place), tensors(config), config)
        library.save(str(folder / "tokenizer.json"))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything in a folder: kinds, modes, times and contents; the target of a link, which is not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            its = path.lstat()
            if path.is_symlink():
                what: Any = str(path.readlink())
            elif path.is_file():
                what = hashlib.sha256(path.read_bytes()).hexdigest() if os.access(path, os.R_OK) else its.st_size
            else:
                what = None
            # Of a folder the time says that something was made in it and taken away again, which may be.
            found[str(path.relative_to(folder))] = (its.st_mode, None if path.is_dir() else its.st_mtime_ns, what)
    return found


@contextmanager
def no_compiling() -> Iterator[None]:
    """Nothing may be compiled within: what is wrong is told before the work."""
    compiled: list[float] = []

    def heard(event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILED:
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert not compiled, f"{len(compiled)} programs were compiled before the refusal, in {sum(compiled):.1f} s"


def tiers(cases: Sequence[Case]) -> list[Any]:
    """A third of the cases, of every kind, for the quick tests; the others for the full ones."""
    names = Counter(case.name for case in cases)
    assert max(names.values()) == 1, "a case is found by its name"
    return [
        pytest.param(case, id=visible(case.name), marks=pytest.mark.full if number % 3 else ())
        for number, case in enumerate(cases)
    ]

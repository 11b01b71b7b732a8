"""`progress=True`: every function that takes long shows a bar of its own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from small_model import jax_model, small_model

import gpt2jax
import svdtrace
from svdtrace.atlas.mapping import write_atlas
from svdtrace.patching.measuring import patch_prompts
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings import bars
from svdtrace.sweeping import telling
from svdtrace.testing.verifying import verify
from svdtrace.truth.planting import plant
from svdtrace.truth.scoring import score_truth

EDGE = "0.0:1.0@end:S/dest"


Asked = tuple[gpt2jax.Model, list[Prompt], svdtrace.Trace]


@pytest.fixture(scope="module")
def asked() -> Asked:
    model = jax_model(*small_model())
    names = {"strings": tuple("abcde"), "roles": {"S": 1, "end": 4}, "answer": 1, "distractor": 2}
    prompts = [Prompt(id=None, tokens=tuple(range(start, start + 5)), **names) for start in (0, 3)]
    return model, prompts, svdtrace.trace(model, prompts, svdtrace.TraceConfig(threshold=0.2))


ELSEWHERE: Mapping[str, Callable[..., object]] = {
    "patch_prompts": patch_prompts,
    "score_truth": score_truth,
    "verify": verify,
    "write_atlas": write_atlas,
}
ASKED: Mapping[str, Callable[[Any, list[Prompt], svdtrace.Trace, Path], object]] = {
    "trace": lambda model, prompts, *_: svdtrace.trace(model, prompts, progress=True),
    "head_usage": lambda model, prompts, *_: svdtrace.head_usage(model, prompts, progress=True),
    "characterise": lambda model, prompts, *_: svdtrace.characterise(model, prompts, prompts, progress=True),
    "compare": lambda model, prompts, *_: svdtrace.compare(model, prompts, progress=True),
    "intervene": lambda model, prompts, *_: svdtrace.intervene(model, prompts, EDGE, progress=True),
    "circuit": lambda model, _, trace, __: svdtrace.circuit(model, trace, progress=True),
    "chance": lambda model, prompts, *_: svdtrace.chance(model, prompts, nulls=1, progress=True),
    "stability": lambda model, prompts, trace, _: svdtrace.stability(model, prompts, trace, progress=True),
    "reproduce": lambda model, prompts, *_: svdtrace.reproduce(model, prompts, find_roots=lambda _: "", progress=True),
    "sweep": lambda model, prompts, _, folder: svdtrace.sweep(model, prompts, folder, progress=True),
    "patch_prompts": lambda model, prompts, *_: patch_prompts(model, prompts, prompts[::-1], progress=True),
    "score_truth": lambda *_: score_truth(
        (its := plant("induction")).model, its.circuit.prompts, its.truth, progress=True
    ),
    "verify": lambda model, prompts, *_: verify(model, prompts, laws=["rebuilt", "ordered"], progress=True),
    "write_atlas": lambda model, _, __, folder: write_atlas(model, folder, progress=True),
}


def test_a_bar_says_that_programs_compile(monkeypatch: pytest.MonkeyPatch):
    """In a notebook as in a terminal; a function that is given is called as it is."""
    told: list[tuple] = []

    class Shown:
        def __init__(self, *_columns: object, **_settings: object) -> None: ...

        def __enter__(self) -> Shown:
            return self

        def __exit__(self, *_: object) -> None: ...

        def add_task(self, description: str, total: int | None) -> None:
            told.append((description, total))

        def update(self, _task: None, *, completed: int, total: int | None, description: str) -> None:
            told.append((completed, total, description))

    monkeypatch.setattr("rich.progress.Progress", Shown)
    monkeypatch.setattr(bars, "on_terminal", lambda _stream: True)
    with bars.progressing(True, "tracing prompts") as advance:
        assert advance is not None
        advance(1, 4)
    assert told == [("compiling; tracing prompts", None), (1, 4, "tracing prompts")]

    def given(done: int, total: int) -> None:
        told.append((done, total))

    with bars.progressing(given, "tracing") as advance:
        assert advance is given
    with bars.progressing(False, "tracing") as advance:
        assert advance is None
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace(kernelapp=None))
    assert bars.in_notebook()


def test_every_public_function_that_takes_progress_is_tried():
    taking = {
        name
        for name in svdtrace.__all__
        if inspect.isfunction(each := getattr(svdtrace, name)) and "progress" in inspect.signature(each).parameters
    }
    assert taking | set(ELSEWHERE) == ASKED.keys()


class OpenedError(Exception):
    """A bar was asked for."""


@pytest.mark.parametrize("name", ASKED)
def test_true_opens_a_bar_before_anything_is_computed(
    name: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def opened(progress: object, title: str) -> NoReturn:
        assert progress is True
        raise OpenedError(title)

    home = sys.modules[(ELSEWHERE.get(name) or getattr(svdtrace, name)).__module__]
    for module in (home, telling):
        monkeypatch.setattr(module, "progressing", opened, raising=False)
    with pytest.raises(OpenedError):
        ASKED[name](*asked, tmp_path / "out")


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in ASKED if name not in ("reproduce", "score_truth")])
def test_the_bar_reaches_its_end(name: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[tuple[int, int | None]] = []

    @contextmanager
    def recorded(*_: Any, **__: Any) -> Iterator[bars.Advance]:
        yield lambda done, total, now=None: shown.append((done, total))

    monkeypatch.setattr(bars, "bar", recorded)
    ASKED[name](*asked, tmp_path / "out")
    done, total = shown[-1]
    assert done > 0
    assert total == (None if name == "sweep" else done)

"""Sweeps that are refused, and starts that fail: nothing in a folder is touched before all is checked."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_model import jax_model, small_model
from sweep_prompts import prompt
from swept_folders import CONFIG, PART, PROMPTS, content, state

import svdtrace
from svdtrace.errors import OutputError, PromptError, RootError
from svdtrace.sweeping import running
from svdtrace.sweeping.folder import claimed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config": svdtrace.TraceConfig(threshold=0.3, tau=0.9)}, r"holds a sweep with tau 1\.0 \(now 0\.9\)"),
        ({"part_size": 5}, r"holds a sweep with part_size 4 \(now 5\)"),
        ({"prompts": [*PROMPTS[:5], prompt(77), *PROMPTS[6:]]}, r"part-00001.parquet: was made from other prompts"),
        ({"prompts": PROMPTS[:7]}, r"part-00001.parquet: was made from other prompts"),
        ({"prompts": PROMPTS[:8]}, r"holds parts of prompts that are no longer there"),
        ({"prompts": [*PROMPTS, prompt(10)]}, r"part-00002.parquet: was made from other prompts"),
        ({"config": svdtrace.TraceConfig(threshold=0.3, dtype="float64")}, r"holds a sweep with dtype float32"),
    ],
)
def test_another_sweep_is_refused_and_changes_nothing(
    model: Any, undisturbed: Path, changed: dict[str, Any], said: str
):
    before = state(undisturbed)
    asked = {"prompts": PROMPTS, "config": CONFIG, "part_size": PART, **changed}
    with pytest.raises(OutputError, match=said):
        svdtrace.sweep(model, asked.pop("prompts"), undisturbed, **asked)
    assert state(undisturbed) == before


def test_other_weights_are_refused(undisturbed: Path):
    params, config = small_model(seed=4)
    before = state(undisturbed)
    with pytest.raises(OutputError, match="holds a sweep with model "):
        svdtrace.sweep(jax_model(params, config), PROMPTS, undisturbed, CONFIG, part_size=PART)
    assert state(undisturbed) == before


def test_more_prompts_than_a_sweep_ended_with_are_refused(model: Any, tmp_path: Path):
    """Of whole parts alone, so that no part tells it."""
    svdtrace.sweep(model, PROMPTS[: 2 * PART], tmp_path, CONFIG, part_size=PART)
    before = state(tmp_path)
    with pytest.raises(OutputError, match=r"holds a sweep of 8 prompts that has ended, and these are more"):
        svdtrace.sweep(model, PROMPTS, tmp_path, CONFIG, part_size=PART)
    assert state(tmp_path) == before


BAD = replace(PROMPTS[0], id=None, tokens=(999,))
STARTS = {
    "no prompts": ({"prompts": []}, PromptError, "prompts: holds no prompts"),
    "none usable": (
        {"prompts": [BAD, BAD]},
        PromptError,
        "none of its 2 prompts can be used; of the first, prompt 0: ",
    ),
    "one unusable": ({"prompts": [BAD, PROMPTS[0]], "strict": True}, PromptError, "prompt 0: token 999"),
    "no such head": ({"config": svdtrace.TraceConfig(roots="7.0@end:*")}, RootError, "7.0"),
    "text": ({"prompts": ["When Mary"]}, PromptError, "prompt 0 is of the kind str"),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("there", ["nothing", "a trace", "a sweep"])
def test_a_failed_start_leaves_what_was_there(
    model: Any, undisturbed: Path, tmp_path: Path, made_trace: Path, start: str, there: str
):
    changed, kind, said = STARTS[start]
    asked = {"prompts": PROMPTS, "config": CONFIG, "part_size": PART, **changed}
    folder = tmp_path / "new" / "out"
    if there != "nothing":
        shutil.copytree(undisturbed if there == "a sweep" else made_trace, folder)
    if there == "a sweep" and start == "no such head":
        kind, said = OutputError, "holds a sweep with threshold 0.3 (now 0.5), roots all (now 7.0@end:*)"
    before = state(tmp_path)
    with pytest.raises(kind, match=re.escape(said)):
        svdtrace.sweep(model, asked.pop("prompts"), folder, **asked)
    assert state(tmp_path) == before


@pytest.fixture(scope="module")
def made_trace(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace's folder, as far as a sweep is concerned."""
    folder = tmp_path_factory.mktemp("traces") / "trace"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"version": "0", "command": "trace", "files": ["report.html"]}))
    (folder / "report.html").write_text("a page")
    return folder


def test_a_start_that_fails_at_the_first_write_takes_back_what_it_made(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_args: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = state(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=r"manifest\.json: not written \(No space left on device\)"):
            svdtrace.sweep(model, PROMPTS, tmp_path / "new" / "out", CONFIG, part_size=PART)
    assert state(tmp_path).keys() == before.keys()


def test_a_folder_in_use_is_refused(model: Any, undisturbed: Path, tmp_path: Path):
    with claimed(tmp_path / "out", None):
        before = state(tmp_path)
        with pytest.raises(OutputError, match="another sweep is at work in this folder"):
            svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG)
        assert state(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_sweep_took_meanwhile_is_refused(
    model: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = running.free_folder

    def taken(folder: Path) -> Path:
        target = real(folder)
        shutil.copytree(undisturbed, target)
        return target

    monkeypatch.setattr(running, "free_folder", taken)
    monkeypatch.setattr(running, "begun", lambda _folder: None)
    with pytest.raises(OutputError, match="another sweep was at work there meanwhile"):
        svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART)
    assert content(tmp_path / "out") == content(undisturbed)

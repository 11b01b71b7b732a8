"""The commands `sweep` and `query`, as they are typed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from undescribed_columns import undescribed

from svdtrace.cli import main, reading, sweep_progress, terminal
from svdtrace.cli.options import Voice
from svdtrace.graphs import formats
from svdtrace.surroundings.bars import Advance
from svdtrace.sweeping.parts import Tally
from svdtrace.sweeping.telling import Progress, Start
from svdtrace.tracing.rounding import sentence


@pytest.fixture(scope="module")
def swept(model_folder: Path, prompt_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweeps") / "swept"
    options = ["--prompts", str(prompt_file), "--threshold", "0.3", "--part-size", "2", "--quiet"]
    assert main(["sweep", "--model", str(model_folder), *options, "--out", str(out)]) == 0
    return out


def test_the_files_say_what_their_columns_mean(swept: Path):
    assert undescribed(swept) == []


def test_it_prints_what_it_did(
    model_folder: Path, prompt_file: Path, swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--prompts", str(prompt_file), "--threshold", "0.3", "--part-size", "2"]
    arguments = ["sweep", "--model", str(model_folder), *options]
    assert main([*arguments, "--out", str(tmp_path / "new"), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"sweeping 3 prompts of {prompt_file} into {tmp_path / 'new'}\n"
    said = json.loads(printed.out)
    assert (said["prompts"], said["rejected"], said["resumed_prompts"]) == (3, 0, 0)
    assert said["firings"] > 0
    assert said["bucket_edges"][0] == 9
    assert main([*arguments, "--out", str(swept)]) == 0
    printed = capsys.readouterr()
    assert "3 prompts (0 rejected)" in printed.out
    assert "3 of the prompts were there from an earlier run" in printed.out
    assert "Nothing was left to do" in printed.out
    assert "prompts/s" not in printed.out
    assert printed.err == "found 2 of 2 parts, 3 prompts; nothing is left to do\n"


def test_prompts_of_which_none_can_be_used(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "prompts.jsonl").write_text('{"tokens": [99999]}\n{"tokens": []}\n')
    options = ["--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out")]
    assert main(["sweep", "--model", str(model_folder), *options]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(
        f"error: {tmp_path / 'prompts.jsonl'}: none of its 2 prompts can be used; of the first, "
    )
    assert "line 1: token 99999 at position 0 is outside the model's vocabulary" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("complete", "note"), [(True, ""), (False, "the 3 prompts done so far")])
def test_what_is_made_of_a_sweep_that_has_not_ended_says_so(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], complete: bool, note: str
):
    folder = tmp_path / "sweep"
    shutil.copytree(swept, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sweep"]["complete"] = complete
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for asked in (["graph", str(folder)], ["report", str(folder)]):
        assert main([*asked, "--out", str(tmp_path / asked[0])]) == 0
        said = capsys.readouterr().err
        assert note in said
        assert bool(note) == ("not finished" in said)


def test_answers_are_rounded_for_reading_alone(swept: Path, capsys: pytest.CaptureFixture[str]):
    sql = "select 1::double / 3 as third, [0.1::float, null] as listed, null as nothing"
    assert main(["query", str(swept), sql]) == 0
    shown = capsys.readouterr().out
    assert "0.333333 " in shown
    assert "[0.1, ]" in shown
    assert main(["query", str(swept), sql, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0][0] == 1 / 3


@pytest.mark.full
def test_bfloat16_says_what_it_changes(
    model_folder: Path, prompt_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--prompts", str(prompt_file), "--threshold", "0.3", "--part-size", "2", "--dtype", "bfloat16"]
    arguments = ["sweep", "--model", str(model_folder), *options, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rounding"]
    assert found == json.loads((tmp_path / "out" / "manifest.json").read_text())["rounding"]
    assert found["prompts"] == 2
    assert main(arguments) == 0
    assert sentence(found, 3) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--heads", "--prompts-min", "2"],
        ["--paper", "--firings-min", "2"],
        ["--prompt", "2"],
        ["--paper", "--prompt", "2"],
        ["--communities", "--roles", "end"],
        ["--against", "AGAIN"],
    ],
)
def test_graph_reads_a_sweep_as_a_trace(
    swept: Path,
    traced: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
):
    monkeypatch.chdir(tmp_path)
    found, said = [], []
    for name, folder in (("swept", swept), ("traced", traced)):
        asked = [str(folder) if each == "AGAIN" else each for each in arguments]
        files = [each for ending in ("json", "svg") for each in ("--out", f"{name}.{ending}")]
        assert main(["graph", str(folder), *asked, *files, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
        found.append(formats.read(f"{name}.json"))
    assert found[0].edges
    assert list(found[0].edges) == list(found[1].edges)
    # Rounded otherwise in other batches; what is counted is the same.
    for attributes in (dict(graph.nodes(data=True)) for graph in found):
        assert attributes == dict(found[0].nodes(data=True))
    for count in ("prompts", "count"):
        assert list(found[0].edges(data=count)) == list(found[1].edges(data=count))
    assert said[0].get("communities") == said[1].get("communities")


def test_a_prompt_that_no_part_has(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["graph", str(swept), "--prompt", "7"]) == 2
    assert capsys.readouterr().err.endswith("no such prompt; it has 3, numbered from 0 to 2\n")


def test_report_reads_a_sweep(swept: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    assert main(["report", str(swept), "--out", str(page), "--quiet"]) == 0
    assert "read 3 prompts" in page.read_text()


@pytest.mark.parametrize("name", ["report", "graph"])
def test_reading_a_sweep_is_told_from_the_start(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
):
    told: list[str] = []

    @contextmanager
    def watched(*_: Any, **__: Any) -> Iterator[Advance]:
        yield lambda done, total, now=None: told.append(f"{now}: {done} of {total}")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "progress", watched)
        assert main([name, str(swept), "--out", str(tmp_path / name)]) == 0
    assert capsys.readouterr().err.startswith(f"reading 2 parts of {swept}, ")
    assert told[0].startswith("reading part 1 of 2")
    assert told[1].startswith("reading part 2 of 2")
    if name == "report":
        assert told[-1] == "reading part 2 of 2, pass 7 of 7: 13 of 14"
    assert main([name, str(swept), "--out", str(tmp_path / name), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_line_after_two_seconds_and_then_one_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Whether anything is done or not: what takes so long may be a program that compiles."""
    waited: list[float] = []

    class Clock:
        """Every wait is over at once, the fourth brings the end."""

        def wait(self, seconds: float) -> bool:
            waited.append(seconds)
            if len(waited) == 3:
                advance(10, 1000)
            return len(waited) == 4

        def set(self) -> None:
            """The end comes by itself."""

    def at_the_end(target: Callable[[], None], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: None, join=target)

    # All tests wait an hour more.
    monkeypatch.setattr(terminal, "LINE_FIRST", terminal.LINE_FIRST - 3600)
    monkeypatch.setattr(terminal, "Event", Clock)
    monkeypatch.setattr(terminal, "Thread", at_the_end)
    with terminal.progress("counting", Voice()) as advance:
        assert advance is not None
    assert capsys.readouterr().err.splitlines() == ["compiling; counting"] * 2 + ["counting: 10 of 1,000"]
    assert waited == [2.0, 60.0, 60.0, 60.0]


def test_a_question(swept: Path, traced: Path, capsys: pytest.CaptureFixture[str]):
    sql = "select count(*) as many, sum(layer) as s from firings"
    answers = []
    for folder in (swept, traced):
        assert main(["query", str(folder), sql, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["columns"] == ["many", "s"]
    assert main(["query", str(swept), sql]) == 0
    assert str(answers[0]["rows"][0][0]) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweep", "--out", "new"], "a sweep reads one source"),
        (["sweep", "--prompts", "no.jsonl", "--out", "new"], "no.jsonl: no such file"),
        (["sweep", "--prompts", "ioi:4", "--part-size", "0", "--out", "new"], "part_size is 0; give 1 or more"),
        (["query", "nowhere", "select 1"], "nowhere: holds no tables"),
    ],
)
def test_what_cannot_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def progress(prompts: int, seconds: float, earlier: int = 0, underway: int = 0) -> Progress:
    return Progress(Tally(prompts=prompts, firings=10 * prompts), Tally(prompts=earlier), seconds, underway)


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """One when all is checked, and one at each interval, whatever is being waited for."""
    monkeypatch.setattr(terminal, "LINE_EVERY", 0.05)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    seen: list[str] = []

    def until(line: str) -> None:
        stop = time.monotonic() + 20
        while not any(each.startswith(line) for each in seen):
            assert time.monotonic() < stop, seen
            time.sleep(0.01)
            seen.extend(capsys.readouterr().err.splitlines())

    voice: Any = SimpleNamespace(quiet=False)
    with sweep_progress.shown(voice, "ioi:1000", Path("out"), 1000) as told:
        until("getting ready since 0 s")
        told.started(Start(0, Tally(), 2048, measured=True))
        until("sweeping 1,000 prompts of ioi:1000 into out")
        told.progress(progress(100, 60.0, underway=22))
        until("122 of 1,000 prompts, 2 prompts/s, 17 firings/s, 439 s left")
        told.progress(progress(244, 61.0, earlier=122))
        until("244 of 1,000 prompts, 2 prompts/s, 40 firings/s, 378 s left")
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("start", "total", "said"),
    [
        (Start(37, Tally(prompts=9400, rejected=72), 256, measured=False), 30720, "37 of 120 parts, 9,472 prompts"),
        (Start(37, Tally(prompts=9472), 2048, measured=True), 30720, "37 of about 120 parts, 9,472 prompts"),
        (Start(37, Tally(prompts=9472), 256, measured=False), None, "37 parts, 9,472 prompts"),
        (Start(1, Tally(prompts=20), 256, measured=False), 300, "1 of 2 parts, 20 prompts"),
    ],
)
def test_a_sweep_that_goes_on_says_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], start: Start, total: int | None, said: str
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    voice: Any = SimpleNamespace(quiet=False)
    with sweep_progress.shown(voice, "p.jsonl", Path("out"), total) as told:
        told.started(start)
    assert capsys.readouterr().err == f"found {said}; goes on from there\n"


def test_a_refused_sweep_changes_nothing(
    model_folder: Path, prompt_file: Path, swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "more.jsonl").write_text(prompt_file.read_text() + '{"tokens": [1]}\n')
    before = {
        each: (each.stat().st_mtime_ns, each.is_file() and each.read_bytes()) for each in (swept, *swept.rglob("*"))
    }
    options = ["--threshold", "0.3", "--out", str(swept)]
    for asked in ([str(tmp_path / "more.jsonl")], [str(prompt_file), "--tau", "0.9"], [str(tmp_path / "no.jsonl")]):
        assert main(["sweep", "--model", str(model_folder), "--prompts", *asked, *options]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert before == {each: (each.stat().st_mtime_ns, each.is_file() and each.read_bytes()) for each in before}
        assert set(before) == {swept, *swept.rglob("*")}

"""Sweeps: the tables of a trace, whatever the parts; what is killed goes on; what differs is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from checkpoints.folders import CONFIG as SHAPE
from checkpoints.folders import tensors, write_folder
from equal_tables import Differences, compare
from sweep_prompts import prompt
from swept_folders import CONFIG, PART, PROMPTS, content, state

import svdtrace
from svdtrace.errors import OutputError, PromptError, TraceFolderError
from svdtrace.prompts.prompt import Prompt
from svdtrace.results import decompositions
from svdtrace.sweeping import parts, running
from svdtrace.sweeping.folder import LOCK

ROOT = Path(__file__).resolve().parents[3]
TABLES = ("prompts", "firings", "edges")


def test_the_parts_hold_a_traces_tables(model: Any, undisturbed: Path):
    trace = svdtrace.trace(model, PROMPTS, CONFIG)
    assert trace.firings.num_rows > 20
    assert trace.edges.num_rows > 20
    swept = svdtrace.read(undisturbed)
    assert parts.numbers(undisturbed) == [0, 1, 2]
    for name in TABLES:
        assert getattr(trace, name).schema.equals(getattr(swept, name).schema)
    assert trace.prompts.drop_columns("logit_difference").equals(swept.prompts.drop_columns("logit_difference"))
    # Other batches, other rounding; of these prompts none lies within it of a threshold.
    assert compare(trace, swept, CONFIG.threshold) == Differences(0, 0, 0)
    for name in ("counts", "near_ties", "config", "model", "paths_saturated"):
        one, other = trace.manifest[name], swept.manifest[name]
        if name == "config":
            one, other = ({key: value for key, value in each.items() if key != "batch_size"} for each in (one, other))
        assert one == other
    assert swept.manifest["prompts"]["sha256"] == trace.manifest["prompts"]["sha256"]
    assert swept.manifest["prompts"]["count"] == 10
    assert swept.graph().number_of_edges() == trace.graph().number_of_edges()


class Killed(BaseException):
    """What a test does to a sweep in place of SIGKILL."""


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> Callable[[], int]:
    """Let a sweep die at its nth writing or renaming of a file."""
    passed = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == moment:
                raise Killed
            return real(*args, **options)

        return call

    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(pq, "write_table", counted(pq.write_table))
    return lambda: passed


@pytest.mark.whole
def test_killed_at_any_write_it_ends_the_same(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a sweep of two parts, the second with less than the first."""
    given = PROMPTS[: PART + 1]
    svdtrace.sweep(model, given, tmp_path / "whole", CONFIG, part_size=PART)
    expected, moment, survived = content(tmp_path / "whole"), 0, False
    while not survived:
        moment += 1
        folder = tmp_path / f"{moment}"
        with monkeypatch.context() as patched:
            passed = kill_at(patched, moment)
            try:
                svdtrace.sweep(model, given, folder, CONFIG, part_size=PART)
                survived = True
            except Killed:
                pass
        whole = parts.numbers(folder) if folder.exists() else []
        seen: list[Any] = []
        svdtrace.sweep(model, given, folder, CONFIG, part_size=PART, progress=seen.append)
        assert content(folder) == expected
        assert seen[-1].earlier.prompts == sum(min(PART, len(given) - PART * number) for number in whole)
    # Two parts of three tables, each written and renamed, and the manifests.
    assert moment > 12
    assert passed() < moment


BFLOAT16 = replace(CONFIG, dtype="bfloat16")


def test_links_in_the_places_of_files_are_replaced_and_others_files_stay(model: Any, undisturbed: Path, tmp_path: Path):
    """Catches what is written or emptied through a link that stands where a part is made, and somebody else's `.tmp`
    taken for a killed sweep's.
    """
    folder, precious = tmp_path / "swept", tmp_path / "thesis.tex"
    shutil.copytree(undisturbed, folder)
    (tmp_path / "thesis.tex").write_text("precious")
    places = [f"{name}/part-00002.parquet" for name in TABLES if name != "prompts"]
    for name in ("prompts/part-00002.parquet", *places, "rejected.parquet"):
        (folder / name).unlink()
    unfinished = (*(f"{name}/part-00002.parquet.tmp" for name in TABLES), ".svdtrace-manifest.json.tmp")
    for name in (*places, *unfinished, "rejected.parquet", "rejected.parquet.tmp"):
        (folder / name).symlink_to(precious)
    for name in ("notes/draft.tmp", "draft.tmp", "prompts/draft.tmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("precious")
    svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART)
    assert precious.read_text() == "precious"
    assert not [each for each in folder.rglob("*") if each.is_symlink()]
    for name in ("notes/draft.tmp", "draft.tmp", "prompts/draft.tmp"):
        assert (folder / name).read_text() == "precious"
        (folder / name).unlink()
    assert content(folder) == content(undisturbed)


@pytest.mark.full
def test_what_bfloat16_changes_is_found_once_and_never_lost(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def again(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("found a second time")

    monkeypatch.setattr("svdtrace.tracing.trace.PROMPTS", 3)
    whole = svdtrace.sweep(model, PROMPTS[:PART], tmp_path / "whole", BFLOAT16, part_size=PART)
    found = whole.manifest["rounding"]
    assert found == svdtrace.trace(model, PROMPTS[:PART], BFLOAT16).manifest["rounding"]
    assert found["prompts"] == 3
    assert found["edges"]["kept"] > 0
    # Before these moments there is no part yet, and a resumed sweep is a new one.
    expected, moment, first_was_there = content(tmp_path / "whole"), 5, False
    while not first_was_there:
        moment += 1
        folder = tmp_path / f"{moment}"
        with monkeypatch.context() as patched:
            kill_at(patched, moment)
            with pytest.raises(Killed):
                svdtrace.sweep(model, PROMPTS[:PART], folder, BFLOAT16, part_size=PART)
        first_was_there = 0 in parts.numbers(folder)
        with monkeypatch.context() as patched:
            if first_was_there:
                assert svdtrace.read(folder).manifest["rounding"] == found
                patched.setattr(running, "rounding", again)
            svdtrace.sweep(model, PROMPTS[:PART], folder, BFLOAT16, part_size=PART)
        assert content(folder) == expected
    # The manifest, the decomposition, and the part's three tables, each written and renamed.
    assert moment > 7


@pytest.mark.full
def test_what_bfloat16_changes_is_found_by_the_first_prompts_that_can_be_used(model: Any, tmp_path: Path):
    lines = [json.dumps({"tokens": [999]})] * PART + [json.dumps({"tokens": each.tokens}) for each in PROMPTS]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    swept = svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "out", BFLOAT16, part_size=PART)
    alone = svdtrace.trace(model, PROMPTS[:PART], BFLOAT16)
    assert swept.manifest["rounding"] == alone.manifest["rounding"]


def test_a_finished_sweep_is_left_as_it_is(model: Any, undisturbed: Path):
    before, told, starts = state(undisturbed), [], []
    said = json.loads((undisturbed / "manifest.json").read_text())
    again = svdtrace.sweep(model, PROMPTS, undisturbed, CONFIG, progress=told.append, started=starts.append)
    assert state(undisturbed) == before
    assert again.manifest == said
    assert [(each.done.prompts, each.earlier.prompts) for each in told] == [(10, 10)]
    assert [(each.parts, each.part_size, each.measured, each.left) for each in starts] == [(3, PART, False, False)]


def test_what_a_finished_sweep_lacks_is_made_again(model: Any, undisturbed: Path, tmp_path: Path):
    """A part within, the last part, or a file beside the parts; seconds of all runs add up."""
    whole = content(undisturbed)
    for number, name in enumerate(("prompts/part-00001.parquet", "prompts/part-00002.parquet", "rejected.parquet")):
        folder = tmp_path / str(number)
        shutil.copytree(undisturbed, folder)
        (folder / name).unlink()
        starts: list[Any] = []
        svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART, started=starts.append)
        assert content(folder) == whole
        assert starts[0].left
        before, after = (json.loads((each / "manifest.json").read_text())["seconds"] for each in (undisturbed, folder))
        assert after["total"] > before["total"]


def test_what_cannot_be_used_is_set_aside_with_its_reason(model: Any, undisturbed: Path, tmp_path: Path):
    """Whatever stands in a reason, and however the file is called, the reason can be written."""
    lines = [json.dumps({"id": each.id, "tokens": each.tokens, "roles": each.roles}) for each in PROMPTS[:6]]
    wrong = {
        "": "the line is empty",
        "{not json": "not valid JSON at column 2",
        '{"tokens": [1, 999]}': "token 999 at position 1 is outside the model's vocabulary",
        '{"tokens": [1, 2], "roles": {"IO": 7}}': 'role "IO" is position 7, but the prompt has 2 tokens',
        '{"tokens": [1], "answer": "\\ud83d"}': '"answer" holds "\\ud83d", which is not valid Unicode',
    }
    lines[PART:PART] = wrong
    path = tmp_path / "p\udcff.jsonl"
    path.write_text("\n".join(lines) + "\n\n")
    swept = svdtrace.sweep(model, str(path), tmp_path / "out", CONFIG, part_size=PART)
    assert (swept.manifest["prompts"]["count"], swept.manifest["prompts"]["rejected"]) == (6, 5)
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [each["prompt"] for each in rejected] == [4, 5, 6, 7, 8]
    assert [each["where"].rpartition("p\\udcff.jsonl line ")[2] for each in rejected] == ["5", "6", "7", "8", "9"]
    for each, reason in zip(rejected, wrong.values(), strict=True):
        assert each["reason"].startswith(reason)
    tables = svdtrace.read(tmp_path / "out")
    assert tables.prompts["prompt"].to_pylist() == [0, 1, 2, 3, 9, 10]
    with pytest.raises(PromptError, match=r"jsonl line 5: the line is empty; remove it"):
        svdtrace.sweep(model, str(path), tmp_path / "strict", CONFIG, strict=True)
    alone = svdtrace.read(undisturbed).firings
    alone = alone.filter(pc.less(alone["prompt"], 6))
    assert tables.firings.drop_columns(["prompt", *FLOATS]).equals(alone.drop_columns(["prompt", *FLOATS]))


FLOATS = ("pattern", "score", "total", "products")


def test_a_part_without_prompts(model: Any, tmp_path: Path):
    lines = [json.dumps({"tokens": [999]})] * PART + [json.dumps({"tokens": each.tokens}) for each in PROMPTS[2:4]]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    swept = svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "out", CONFIG, part_size=PART)
    assert [pq.read_table(each).num_rows for each in sorted((swept.folder / "prompts").iterdir())] == [0, 2]
    assert svdtrace.read(swept.folder).prompts["prompt"].to_pylist() == [4, 5]


def test_roots_are_settled_by_the_first_prompts_that_can_be_used(model: Any, tmp_path: Path):
    good = [json.dumps({"tokens": each.tokens, "roles": each.roles}) for each in PROMPTS]
    (tmp_path / "p.jsonl").write_text("\n".join([json.dumps({"tokens": [999]})] * PART + good) + "\n")
    config = svdtrace.TraceConfig(threshold=0.3, roots="1.0@end:*")
    swept = svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "out", config, part_size=PART)
    alone = svdtrace.trace(model, PROMPTS, config)
    assert swept.manifest["counts"]["firings"] == alone.firings.num_rows > 0


def test_a_sweep_that_stopped_is_read_with_the_counts_of_its_parts(model: Any, undisturbed: Path, tmp_path: Path):
    class StoppedError(Exception):
        pass

    def stop(_progress: Any) -> None:
        raise StoppedError

    shutil.copytree(undisturbed, tmp_path / "out")
    whole = svdtrace.read(tmp_path / "out").manifest["counts"]
    (tmp_path / "out" / "rejected.parquet").unlink()
    with pytest.raises(StoppedError):
        svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART, progress=stop)
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert noted["counts"] == svdtrace.read(tmp_path / "out").manifest["counts"] == whole
    assert not noted["sweep"]["complete"]
    parts.path(tmp_path / "out", "prompts", 1).unlink()
    left = svdtrace.read(tmp_path / "out")
    assert left.manifest["counts"]["firings"] == left.firings.num_rows < whole["firings"]
    assert left.manifest["prompts"]["count"] == left.prompts.num_rows == 6


def test_prompts_are_read_as_they_are_needed(model: Any, tmp_path: Path):
    asked = 0

    def endless() -> Iterator[Prompt]:
        nonlocal asked
        while True:
            asked += 1
            yield prompt(asked % 10)

    class EnoughError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done.prompts >= 3 * PART:
            raise EnoughError

    with pytest.raises(EnoughError):
        svdtrace.sweep(model, endless(), tmp_path / "out", CONFIG, part_size=PART, progress=stop)
    assert asked == 3 * PART
    assert parts.numbers(tmp_path / "out") == [0, 1, 2]


def test_the_place_of_another_result_is_taken_and_no_more(model: Any, tmp_path: Path):
    svdtrace.trace(model, PROMPTS[:2], CONFIG).save(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    svdtrace.sweep(model, PROMPTS[:4], tmp_path / "out", CONFIG, part_size=PART)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "report.html").exists()
    svdtrace.trace(model, PROMPTS[:2], CONFIG).save(tmp_path / "out")
    left = {each.name for each in (tmp_path / "out").iterdir()} - {LOCK}
    assert "notes.txt" in left
    assert not left & {"prompts", "firings", "edges", "rejected.parquet", "decomposition.safetensors"}


def test_a_decomposition_of_another_version_is_named(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a sweep that would go on with other vectors, or that tells to write over them."""
    sweep = partial(svdtrace.sweep, model, [prompt(0)], tmp_path / "out", svdtrace.TraceConfig(threshold=0.3))
    sweep()
    monkeypatch.setattr(decompositions, "FORMAT", "svdtrace decomposition 0")
    with pytest.raises(OutputError, match=r"of another version; end the sweep with the version that began it, or name"):
        sweep()


def test_a_damaged_part_is_named(model: Any, tmp_path: Path):
    svdtrace.sweep(model, PROMPTS[:4], tmp_path / "out", CONFIG, part_size=PART)
    (tmp_path / "out" / "prompts" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(TraceFolderError, match=r"part-00000.parquet: no part of a sweep"):
        svdtrace.sweep(model, PROMPTS[:4], tmp_path / "out", CONFIG, part_size=PART)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_at_20_random_moments_it_ends_the_same(tmp_path: Path):
    shape = {**SHAPE, "vocab_size": 19, "bos_token_id": 18}
    write_folder(tmp_path / "model", tensors(shape), shape)
    rows = [{"tokens": np.roll(prompt(number).tokens, number // 10).tolist()} for number in range(400)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-c", "from svdtrace.cli import main; raise SystemExit(main())", "sweep"]
    options = ["--model", str(tmp_path / "model"), "--prompts", str(tmp_path / "prompts.jsonl"), "--threshold", "0.3"]
    options += ["--part-size", "8", "--quiet", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SVDTRACE_CACHE": str(tmp_path / "cache")}
    subprocess.run([*command, *options, str(tmp_path / "whole")], check=True, env=environment)
    assert svdtrace.read(tmp_path / "whole").edges.num_rows > 400
    start = time.monotonic()
    subprocess.run([*command, *options, str(tmp_path / "timed")], check=True, env=environment)
    longest = time.monotonic() - start
    rng, kills, rounds = np.random.default_rng(0), 0, 0
    while kills < 20:
        rounds += 1
        assert rounds <= 80, f"{kills} kills in {rounds - 1} runs: the moments are too late"
        process = subprocess.Popen([*command, *options, str(tmp_path / "killed")], env=environment)
        try:
            process.wait(rng.uniform(0.3, 1.0) * longest)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.wait()
        if (tmp_path / "killed" / "rejected.parquet").exists():
            assert content(tmp_path / "killed") == content(tmp_path / "whole")
            (tmp_path / "killed").rename(tmp_path / f"whole {rounds}")
    subprocess.run([*command, *options, str(tmp_path / "killed")], check=True, env=environment)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")

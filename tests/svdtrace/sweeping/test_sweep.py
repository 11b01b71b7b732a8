"""Sweeps: the tables of a trace, whatever the parts; what is killed goes on; what differs is refused."""

from __future__ import annotations

import json
import os
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
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from equal_tables import Differences, compare
from safetensors.numpy import load_file
from small_model import jax_model, small_model
from sweep_prompts import prompt

import svdtrace
from svdtrace.errors import OutputError, PromptError, TraceFolderError
from svdtrace.prompts.prompt import Prompt
from svdtrace.results import decompositions
from svdtrace.sweeping import parts, running
from svdtrace.sweeping.folder import LOCK, claimed

ROOT = Path(__file__).resolve().parents[3]
CONFIG = svdtrace.TraceConfig(threshold=0.3)
PART = 4
TABLES = ("prompts", "firings", "edges")


PROMPTS = [prompt(number) for number in range(10)]


@pytest.fixture(scope="module")
def undisturbed(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "undisturbed"
    svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART)
    return folder


def content(folder: Path) -> dict[str, pa.Table | bytes]:
    """All that a sweep says, its seconds aside."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each.name not in (LOCK, "manifest.json"))
    found: dict[str, Any] = {
        # The header of a safetensors file is in no particular order.
        str(each.relative_to(folder)): each.read_bytes() if each.suffix == ".parquet" else arrays(each)
        for each in files
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    return {**found, "manifest": {name: value for name, value in manifest.items() if name != "seconds"}}


def arrays(file: Path) -> dict[str, tuple[Any, ...]]:
    return {name: (array.shape, array.tobytes()) for name, array in load_file(file).items()}


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


def test_killed_at_any_write_it_ends_the_same(
    model: Any, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected, moment, survived = content(undisturbed), 0, False
    while not survived:
        moment += 1
        folder = tmp_path / f"{moment}"
        with monkeypatch.context() as patched:
            passed = kill_at(patched, moment)
            try:
                svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART)
                survived = True
            except Killed:
                pass
        whole = parts.numbers(folder) if folder.exists() else []
        seen: list[Any] = []
        svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART, progress=seen.append)
        assert content(folder) == expected
        assert seen[-1].earlier.prompts == sum(min(PART, 10 - PART * number) for number in whole)
    # Three parts of three tables, each written and renamed, and the manifests.
    assert moment > 18
    assert passed() < moment


BFLOAT16 = replace(CONFIG, dtype="bfloat16")


def test_what_bfloat16_changes_is_found_once_and_never_lost(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def again(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("found a second time")

    monkeypatch.setattr("svdtrace.tracing.trace.PROMPTS", 3)
    whole = svdtrace.sweep(model, PROMPTS, tmp_path / "whole", BFLOAT16, part_size=PART)
    found = whole.manifest["rounding"]
    assert found == svdtrace.trace(model, PROMPTS[:PART], BFLOAT16).manifest["rounding"]
    assert found["prompts"] == 3
    assert found["edges"]["kept"] > 0
    expected, moment, first_was_there = content(tmp_path / "whole"), 0, False
    while not first_was_there:
        moment += 1
        folder = tmp_path / f"{moment}"
        with monkeypatch.context() as patched:
            kill_at(patched, moment)
            with pytest.raises(Killed):
                svdtrace.sweep(model, PROMPTS, folder, BFLOAT16, part_size=PART)
        first_was_there = 0 in parts.numbers(folder)
        with monkeypatch.context() as patched:
            if first_was_there:
                assert svdtrace.read(folder).manifest["rounding"] == found
                patched.setattr(running, "rounding", again)
            svdtrace.sweep(model, PROMPTS, folder, BFLOAT16, part_size=PART)
        assert content(folder) == expected
    # The manifest, the decomposition, and the part's three tables, each written and renamed.
    assert moment > 7


def test_what_bfloat16_changes_is_found_by_the_first_prompts_that_can_be_used(model: Any, tmp_path: Path):
    lines = [json.dumps({"tokens": [999]})] * PART + [json.dumps({"tokens": each.tokens}) for each in PROMPTS]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    swept = svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "out", BFLOAT16, part_size=PART)
    alone = svdtrace.trace(model, PROMPTS[:PART], BFLOAT16)
    assert swept.manifest["rounding"] == alone.manifest["rounding"]


def test_a_finished_sweep_is_left_as_it_is(model: Any, undisturbed: Path):
    before = {each: each.stat().st_mtime_ns for each in undisturbed.glob("*/part-*")}
    svdtrace.sweep(model, PROMPTS, undisturbed, CONFIG, part_size=PART)
    assert {each: each.stat().st_mtime_ns for each in undisturbed.glob("*/part-*")} == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"config": svdtrace.TraceConfig(threshold=0.3, tau=0.9)}, r"holds a sweep with tau 1\.0 \(now 0\.9\)"),
        ({"part_size": 5}, r"holds a sweep with part_size 4 \(now 5\)"),
        ({"prompts": [*PROMPTS[:5], prompt(77), *PROMPTS[6:]]}, r"part-00001.parquet: was made from other prompts"),
        ({"prompts": PROMPTS[:7]}, r"part-00001.parquet: was made from other prompts"),
        ({"prompts": PROMPTS[:8]}, r"holds parts of prompts that are no longer there"),
    ],
)
def test_another_sweep_is_refused(model: Any, undisturbed: Path, changed: dict[str, Any], said: str):
    before = {each: each.read_bytes() for each in undisturbed.glob("*/part-*")}
    asked = {"prompts": PROMPTS, "config": CONFIG, "part_size": PART, **changed}
    with pytest.raises(OutputError, match=said):
        svdtrace.sweep(model, asked.pop("prompts"), undisturbed, **asked)
    assert {each: each.read_bytes() for each in undisturbed.glob("*/part-*")} == before
    svdtrace.sweep(model, PROMPTS, undisturbed, CONFIG, part_size=PART)


def test_other_weights_are_refused(undisturbed: Path):
    params, config = small_model(seed=4)
    with pytest.raises(OutputError, match="holds a sweep with model "):
        svdtrace.sweep(jax_model(params, config), PROMPTS, undisturbed, CONFIG, part_size=PART)


def test_a_folder_in_use_is_refused(model: Any, tmp_path: Path):
    with claimed(tmp_path / "out"), pytest.raises(OutputError, match="another sweep is at work in this folder"):
        svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG)
    svdtrace.sweep(model, PROMPTS[:4], tmp_path / "out", CONFIG, part_size=PART)


def test_what_cannot_be_used_is_set_aside(model: Any, tmp_path: Path):
    lines = [json.dumps({"id": each.id, "tokens": each.tokens, "roles": each.roles}) for each in PROMPTS[:6]]
    lines[1:1] = ["{not json", json.dumps({"tokens": [1, 999]}), json.dumps({"tokens": [1, 2], "roles": {"IO": 7}})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    swept = svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "out", CONFIG, part_size=PART)
    assert swept.manifest["prompts"]["count"] == 6
    assert swept.manifest["prompts"]["rejected"] == 3
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [each["prompt"] for each in rejected] == [1, 2, 3]
    assert [each["where"].rpartition(" line ")[2] for each in rejected] == ["2", "3", "4"]
    assert rejected[0]["reason"].startswith("not valid JSON at column 2")
    assert "token 999 at position 1 is outside the model's vocabulary" in rejected[1]["reason"]
    assert 'role "IO" is position 7, but the prompt has 2 tokens' in rejected[2]["reason"]
    tables = svdtrace.read(tmp_path / "out")
    assert tables.prompts["prompt"].to_pylist() == [0, 4, 5, 6, 7, 8]
    assert set(tables.firings["prompt"].to_pylist()) <= {0, 4, 5, 6, 7, 8}
    with pytest.raises(PromptError, match=r"p\.jsonl line 2: not valid JSON at column 2"):
        svdtrace.sweep(model, str(tmp_path / "p.jsonl"), tmp_path / "strict", CONFIG, strict=True)
    alone = svdtrace.trace(model, PROMPTS[:6], CONFIG)
    assert tables.firings.drop_columns(["prompt", *FLOATS]).equals(alone.firings.drop_columns(["prompt", *FLOATS]))


FLOATS = ("pattern", "score", "total", "products")


def test_a_part_without_prompts(model: Any, tmp_path: Path):
    lines = [json.dumps({"tokens": [999]})] * PART + [json.dumps({"tokens": each.tokens}) for each in PROMPTS[:2]]
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


def test_a_sweep_that_stopped_is_read_with_the_counts_of_its_parts(model: Any, tmp_path: Path):
    class StoppedError(Exception):
        pass

    def stop(_progress: Any) -> None:
        raise StoppedError

    svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART)
    whole = svdtrace.read(tmp_path / "out").manifest["counts"]
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


def test_no_prompts(model: Any, tmp_path: Path):
    with pytest.raises(PromptError, match="holds no prompts"):
        svdtrace.sweep(model, [], tmp_path / "out", CONFIG)


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
    command = [sys.executable, "-c", "from svdtrace.cli import main; raise SystemExit(main())", "sweep"]
    options = ["--prompts", "ioi:600", "--part-size", "24", "--quiet", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SVDTRACE_CACHE": str(tmp_path / "cache")}
    subprocess.run([*command, *options, str(tmp_path / "whole")], check=True, env=environment)
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

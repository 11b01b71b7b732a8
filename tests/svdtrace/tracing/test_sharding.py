"""One device or eight, one process or two: the same tables."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints.folders import CONFIG as SHAPE
from checkpoints.folders import tensors, write_folder
from equal_tables import compare

import svdtrace
from svdtrace.cli import main
from svdtrace.errors import SettingError
from svdtrace.tracing.sharding import device_mesh, in_blocks_by_device

pytestmark = pytest.mark.unoptimised  # one compiler for one device and for eight
ROOT = Path(__file__).resolve().parents[3]
CONFIG = {**SHAPE, "n_embd": 16, "n_inner": 32, "n_positions": 16, "vocab_size": 24, "bos_token_id": 22}
THRESHOLD = 0.3
COMMAND = [sys.executable, "-c", "import sys; from svdtrace.cli import main; raise SystemExit(main())"]
# Trace on a mesh of 4 × 2: prompts over four devices, each copy of the parameters over two.
SPREAD = """
import sys, gpt2jax, svdtrace
from svdtrace.tracing.sharding import device_mesh
model = gpt2jax.load(sys.argv[1])
prompts = svdtrace.prompts.read(sys.argv[2], None, config=model.config)
asked = ((1, {"writers": "heads"}), (2, {"writers": "all"}), (1, {"method": "relative", "threshold": 0.1}))
for (model_axis, chosen), out in zip(asked, sys.argv[3:], strict=True):
    config = svdtrace.TraceConfig(**{"threshold": 0.3, "batch_size": 8, **chosen})
    mesh = device_mesh(model_axis=model_axis)
    assert mesh.size == 8
    svdtrace.trace(model, prompts, config, mesh=mesh).save(out)
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "SVDTRACE_CACHE": str(tmp_path / "cache"), **more}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", tensors(CONFIG), CONFIG)


@pytest.fixture(scope="module")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rng = np.random.default_rng(0)
    rows = [
        {"tokens": rng.integers(0, 22, 9 + number % 3).tolist(), "answer": 1, "distractor": 2} for number in range(13)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def traced(model_folder: Path, prompt_file: Path, **chosen: Any) -> svdtrace.Trace:
    import gpt2jax

    model = gpt2jax.load(model_folder)
    prompts = svdtrace.prompts.read(str(prompt_file), None, config=model.config)
    return svdtrace.trace(model, prompts, svdtrace.TraceConfig(**{"threshold": THRESHOLD, **chosen}))


@pytest.mark.full
def test_eight_devices_give_the_tables_of_one(model_folder: Path, prompt_file: Path, tmp_path: Path):
    outs = [str(tmp_path / name) for name in ("prompts", "both", "relative")]
    flags = environment(tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    arguments = [sys.executable, "-c", SPREAD, str(model_folder), str(prompt_file), *outs]
    run = subprocess.run(arguments, env=flags, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    assert "donated" not in run.stderr
    # Under the last one more sources can fire at once than a pass keeps.
    asked = ({"writers": "heads"}, {"writers": "all"}, {"method": "relative", "threshold": 0.1})
    for out, chosen in zip(outs, asked, strict=True):
        spread, alone = svdtrace.read(out), traced(model_folder, prompt_file, **chosen)
        assert alone.firings.num_rows > 50
        assert spread.manifest["device"]["count"] == 8
        found = compare(alone, spread, chosen.get("threshold", THRESHOLD))
        near = alone.manifest["near_ties"]
        assert found.pairs <= near["pairs"]
        assert found.firings <= near["firings"]
        assert found.edges <= near["edges"]


def options_of(model_folder: Path, prompt_file: Path) -> list[str]:
    return ["--model", str(model_folder), "--prompts", str(prompt_file), "--threshold", "0.3", "--part-size", "3"]


def started_together(tmp_path: Path, *options: list[str]) -> list[subprocess.Popen[str]]:
    """A process for each list of options, all sweeping into one folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ["--coordinator", f"localhost:{port}", "--processes", str(len(options)), "--quiet"]
    return [
        subprocess.Popen(
            [*COMMAND, "sweep", *its, "--out", str(tmp_path / "two"), *together, "--process", str(index)],
            env=environment(tmp_path),
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, its in enumerate(options)
    ]


@pytest.mark.full
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_leaves_none_waiting(model_folder: Path, prompt_file: Path, tmp_path: Path, failing: int):
    options = [options_of(model_folder, prompt_file) for _ in range(2)]
    options[failing][1] = str(tmp_path / "missing")
    processes = started_together(tmp_path, *options)
    try:
        _, said = processes[failing].communicate(timeout=60)
        assert processes[failing].returncode == 2
        assert said.splitlines()[-1].startswith("error: ")
        assert "missing" in said
        processes[1 - failing].communicate(timeout=180)
        assert processes[1 - failing].returncode != 0
    finally:
        for process in processes:
            process.kill()


@pytest.mark.full
def test_two_processes_give_the_tables_of_one(model_folder: Path, prompt_file: Path, tmp_path: Path):
    options = options_of(model_folder, prompt_file)
    for process in started_together(tmp_path, options, options):
        _, said = process.communicate(timeout=250)
        assert process.returncode == 0, said
    assert main(["sweep", *options, "--out", str(tmp_path / "one"), "--quiet"]) == 0
    one, two = svdtrace.read(tmp_path / "one"), svdtrace.read(tmp_path / "two")
    compare(one, two, THRESHOLD)
    assert two.prompts["prompt"].to_pylist() == list(range(13))
    assert two.prompts["tokens"].to_pylist() == one.prompts["tokens"].to_pylist()
    assert two.manifest["prompts"] == one.manifest["prompts"]
    assert two.manifest["counts"]["firings"] == two.firings.num_rows
    # The second process wrote the second part.
    assert len(list((tmp_path / "two" / "firings").iterdir())) == 5


def test_each_device_has_its_own_firings():
    rng = np.random.default_rng(0)
    prompt = np.sort(rng.integers(0, 8, 200))
    head = rng.integers(0, 3, 200)
    rows = np.arange(200) * 2
    slots, heads = in_blocks_by_device(rows, head, prompt, 8, 4)
    per_device = heads.shape[1] // 4
    found = []
    for call, block, slot in zip(*np.nonzero(slots >= 0), strict=True):
        at = slots[call, block, slot] // 2
        assert block // per_device == prompt[at] // 2
        assert heads[call, block] == head[at]
        found.append(at)
    assert sorted(found) == list(range(200))


def test_a_mesh_that_does_not_divide():
    with pytest.raises(SettingError, match="spread over 3 devices, but there are 1"):
        device_mesh([object()], model_axis=3)

"""Each process tells its own memory, with empty caches, and a failure says what to do."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import gpt2jax
from svdtrace import bench
from svdtrace.bench import child, processes
from svdtrace.errors import BenchError

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)
SUBJECT = bench.Subject(shape=CONFIG, gain=8.0)


@pytest.mark.whole
def test_memory_is_the_process_own():
    inner = (
        "import numpy; from svdtrace.bench.child import peak_gib; before = peak_gib(); numpy.ones(2**25); "
        "print(before, peak_gib())"
    )
    # 1 GiB held by a process, which one that it starts must not take for its own; not by this one, whose peak it is.
    code = f"import numpy, subprocess, sys; held = numpy.ones(2**27); subprocess.run([sys.executable, '-c', {inner!r}])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, ended.stdout.split())
    assert before + 0.2 < after < 1


@pytest.mark.whole
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        pytest.param(
            {"kind": "trace", "prompts": 5, "tokens": 9, "settings": {"batch_size": 2}},
            "firings",
            marks=pytest.mark.full,
        ),
        ({"kind": "sweep", "prompts": [2, 4], "tokens": 9, "part_size": 2}, "seconds"),
    ],
)
def test_a_task_is_done_and_told(
    asked: dict, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["child", json.dumps({**asked, "subject": SUBJECT.to_dict()})])
    child.main()
    found = json.loads(capsys.readouterr().out)
    assert np.all(np.asarray(found[told]) > 0)
    assert found["peak_gib"] > 0


def test_a_failed_process_says_what_and_the_way_out():
    with pytest.raises(BenchError, match=r"status 3 \(no room\); .*--model"):
        processes.output_of([sys.executable, "-c", "import sys; print('no room', file=sys.stderr); sys.exit(3)"])


def test_caches_are_those_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    code = "import os; print([os.environ.get(each) for each in ('SVDTRACE_CACHE', 'JAX_COMPILATION_CACHE_DIR')])"
    assert processes.output_of([sys.executable, "-c", code]) == "['', None]\n"
    assert processes.output_of([sys.executable, "-c", code], cache="here") == "['here', None]\n"

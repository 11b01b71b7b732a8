"""A tiny model in a folder, prompts for it, and a trace made by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints.folders import CONFIG as SHAPE
from checkpoints.folders import tensors, write_folder

from svdtrace.cli import main

CONFIG = {**SHAPE, "n_embd": 16, "n_inner": 32, "n_positions": 16, "vocab_size": 23, "bos_token_id": 22}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model without a tokenizer, sharp enough to fire."""
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", tensors(CONFIG), CONFIG)


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts of ids with roles."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {"id": f"p{n}", "tokens": [(n + 1) * (t + 2) % 22 for t in range(9)], "roles": {"IO": 2, "end": 7}, "answer": 1}
        for n in range(3)
    ]
    path.write_text("".join(json.dumps({**row, "distractor": 2}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def traced(model_folder: Path, prompt_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trace of them."""
    out = tmp_path_factory.mktemp("traces") / "traced"
    options = ["--threshold", "0.3", "--quiet", "--out", str(out)]
    assert main(["trace", "--model", str(model_folder), "--prompts", str(prompt_file), *options]) == 0
    return out

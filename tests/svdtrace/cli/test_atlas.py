"""The command `atlas`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from checkpoints.folders import CONFIG, tensors, write_folder

from svdtrace.cli import main
from svdtrace.cli.atlas import Options, load_heads
from svdtrace.cli.options import ModelChoice


def test_an_atlas_holds_a_trace_against_the_weights(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model_folder: Path,
    traced: Path,
):
    monkeypatch.setattr("svdtrace.atlas.pictures.draw_all", lambda *_: None)
    given = ["atlas", "--model", str(model_folder), "--trace", str(traced), "--out", str(tmp_path / "atlas")]
    assert main([*given, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["counts"]["composition"] == 3 * 2 * 2 * 3
    assert {row["side"] for row in content["strongest"]} == {"q", "k", "v"}
    edges = pq.read_table(traced / "edges.parquet")
    of_heads = edges.num_rows - edges["writer_head"].null_count
    assert sum(row["edges"] for row in content["prediction"] if row["measure"] == "score") == of_heads > 0
    chosen = pq.read_table(tmp_path / "atlas" / "chosen.parquet")
    assert sum(chosen["edges"].to_pylist()) == of_heads


def test_a_trace_of_another_model_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, traced: Path):
    assert main(["atlas", "--trace", str(traced), "--out", str(tmp_path / "atlas")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "give its model" in err
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(("left", "positions"), [("wpe.weight attn", True), ("attn", False)])
def test_heads_are_enough(tmp_path: Path, left: str, positions: bool):
    """Catches a folder without token embeddings refused, or its positions not read."""
    kept = {
        name: tensor
        for name, tensor in tensors(CONFIG).items()
        if any(part in name for part in ("ln_1", *left.split()))
    }
    folder = write_folder(tmp_path / "heads", kept, CONFIG)
    model, mark = load_heads(Options(inputs=ModelChoice(str(folder))))
    assert mark is None
    assert model.params.blocks.W_Q.shape == (3, 2, 8, 4)
    assert (model.params.W_pos is not None) is positions
    assert model.params.W_E is None

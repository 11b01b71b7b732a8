"""docs/from-transformerlens.md: every line runs, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "from-transformerlens.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_each_call_of_theirs_stands_above_one_of_ours():
    for block in blocks()[1:]:
        for paragraph in block.strip().split("\n\n"):
            lines = paragraph.splitlines()
            assert not lines[-1].startswith("#"), paragraph
    theirs = [line for block in blocks() for line in block.splitlines() if line.startswith("# ")]
    assert len(theirs) >= 20


@pytest.mark.full
def test_every_line_runs():
    found: dict[str, Any] = {}
    for block in blocks():
        exec(compile(block, PAGE.name, "exec"), found)
    model, tokens, config = found["model"], found["tokens"], found["model"].config
    assert found["text"] == "When Mary and John went out, John gave a ring to" == "".join(found["strings"])
    assert found["pattern"].shape == (1, config.n_heads, tokens.shape[1], tokens.shape[1])
    assert found["longer"].shape == (1, tokens.shape[1] + 3)
    assert 0 < found["loss"] < 20
    assert found["by_head"].shape == (config.n_layers, config.n_heads)
    # What a patch of itself, an ablation and a direction do.
    np.testing.assert_allclose(found["patched"], found["logits"], atol=1e-4)
    assert jnp.max(jnp.abs(found["ablated"] - found["logits"])) > 1e-3
    assert found["steered"].shape == found["logits"].shape
    assert found["gradient"].shape == (config.d_model,)
    difference = found["difference"](found["logits"])
    total = jnp.sum(found["effects"][0, :, -1]) + found["constant"][0]
    np.testing.assert_allclose(total, difference, rtol=1e-3, atol=1e-3)
    assert found["U"].shape == (model.config.d_model + 1, model.config.d_head) == found["V"].shape
    assert found["graph"].number_of_edges() > 0

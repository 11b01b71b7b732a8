"""Patches of prompts: values one by one, shares, slopes, the command's folder and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from small_model import jax_model, random_tokens, small_model
from undescribed_columns import undescribed

import gpt2jax
from gpt2jax import edits
from svdtrace.cli import main
from svdtrace.errors import OptionError, PromptError
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.patching import Patched, measuring, patch_prompts, swapped, table
from svdtrace.patching.table import divisor_of
from svdtrace.prompts import Prompt

LENGTHS = (6, 5, 6)


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return jax_model(*small_model(n_layers=2))


@pytest.fixture(scope="module")
def prompts(model: gpt2jax.Model) -> list[Prompt]:
    rows = random_tokens(3, 6, {"d_vocab": model.config.d_vocab})
    found = []
    for row, length in zip(rows.tolist(), LENGTHS, strict=True):
        roles = {"A": 1, "B": 3} | ({"end": 4} if length == 6 else {})
        found.append(Prompt(None, tuple(row[:length]), tuple(map(str, row[:length])), roles, 1, 2))
    return found


@pytest.fixture(scope="module")
def found(model: gpt2jax.Model, prompts: list[Prompt]) -> Patched:
    with pytest.MonkeyPatch.context() as patch:
        # Three prompts decide nothing; the shares are there all the same.
        patch.setattr(table, "SURE", 0.0)
        return patch_prompts(model, prompts, swapped(prompts, "B=A"))


def differences(model: gpt2jax.Model, prompts: list[Prompt], hooks: list[dict] | None = None) -> np.ndarray:
    """That of every prompt, run alone."""
    logits = [
        gpt2jax.forward(model, np.asarray([prompt.tokens], np.int32), hooks=hooks[n] if hooks else None).logits
        for n, prompt in enumerate(prompts)
    ]
    return np.asarray([each[0, p.last, 1] - each[0, p.last, 2] for each, p in zip(logits, prompts, strict=True)])


def z_of(model: gpt2jax.Model, prompt: Prompt, layer: int) -> jnp.ndarray:
    name = f"blocks.{layer}.attn.hook_z"
    return gpt2jax.forward(model, np.asarray([prompt.tokens], np.int32), taps=name).taps[name]


@pytest.mark.whole
def test_a_heads_row_is_that_of_its_patch_alone(model, prompts, found) -> None:
    """Catches another head, padding that is read, a mean over other prompts, a share of the wrong fall."""
    twins = swapped(prompts, "B=A")
    clean, corrupt = differences(model, prompts), differences(model, twins)
    within = 2 * ACTIVATION_ERROR * float(np.max(np.abs([clean, corrupt])) + 1)
    row = next(row for row in found.table.to_pylist() if (row["layer"], row["head"]) == (1, 2))
    name = "blocks.1.attn.hook_z"
    hooks = [{name: edits.on_head(2, edits.replace(z_of(model, prompt, 1)[:, :, 2]))} for prompt in prompts]
    patched = differences(model, twins, hooks)
    assert row["logit_difference"] == pytest.approx(np.mean(patched), abs=within)
    fall = float(np.mean(clean - corrupt))
    assert found.manifest["divisor"] == pytest.approx(fall, abs=within)
    assert found.manifest["logit_difference"]["clean"] == pytest.approx(np.mean(clean), abs=within)
    assert row["recovered"] * fall == pytest.approx(float(np.mean(patched - corrupt)), abs=2 * within)


def test_a_fall_that_may_be_chance_divides_nothing() -> None:
    assert divisor_of(np.asarray([1.0, 1.0, 1.1, 0.9])) == pytest.approx(1)
    assert divisor_of(np.asarray([3.0, -2.0, 1.0, -1.0])) is None


def test_the_first_residual_at_the_swapped_role_gives_all_back(model, prompts, found) -> None:
    """Catches a role's token taken from another prompt, or another layer's residual."""
    rows = found.table.to_pylist()
    clean = differences(model, prompts)
    (row,) = (row for row in rows if row["layer"] == 0 and row["role"] == "B")
    within = 2 * ACTIVATION_ERROR * float(np.abs(clean).max() + 1)
    assert row["logit_difference"] == pytest.approx(float(np.mean(clean)), abs=within)
    assert {row["role"] for row in rows} == {"A", "B", "end", None}


def test_a_slope_is_that_of_a_small_step(model, prompts, found) -> None:
    """Catches a gradient of another layer or head: a thousandth of the way gives a thousandth of the estimate."""
    twins = swapped(prompts, "B=A")
    row = next(row for row in found.table.to_pylist() if (row["layer"], row["head"]) == (1, 1))
    name, step = "blocks.1.attn.hook_z", 2.0**-6
    sides = []
    for sign in (-1, 1):
        hooks = [
            {name: edits.on_head(1, edits.add(sign * step * (z_of(model, p, 1) - z_of(model, t, 1))[:, :, 1]))}
            for p, t in zip(prompts, twins, strict=True)
        ]
        sides.append(np.mean(differences(model, twins, hooks)))
    slope = (sides[1] - sides[0]) / (2 * step)
    # The central difference's own error: rounding over the step, and the step squared.
    within = float(ACTIVATION_ERROR * (np.abs(sides).max() + 1) / step + step**2 * abs(slope))
    assert row["attribution"] * found.manifest["divisor"] == pytest.approx(slope, abs=within)


@pytest.mark.whole
def test_roles_are_those_of_all_prompts_in_every_batch(model, prompts, monkeypatch) -> None:
    """Catches rows of one batch under the roles of another, and prompts without any."""
    turned = [replace(prompts[0], roles={"B": 3, "A": 1, "C": 2})]
    several = [prompts[2], *turned]
    twins = swapped(several, "B=A")
    whole = patch_prompts(model, several, twins).table.to_pylist()
    monkeypatch.setattr(measuring, "BATCH", 1)
    for mine, row in zip(patch_prompts(model, several, twins).table.to_pylist(), whole, strict=True):
        assert (mine["layer"], mine["role"], mine["prompts"]) == (row["layer"], row["role"], row["prompts"])
        within = 2 * ACTIVATION_ERROR * (abs(row["logit_difference"]) + 1)
        assert mine["logit_difference"] == pytest.approx(row["logit_difference"], abs=within)
    unnamed = [replace(prompts[0], roles={})]
    assert {row["role"] for row in patch_prompts(model, unnamed, unnamed).table.to_pylist()} == {None}


@pytest.mark.parametrize(
    ("swap", "error", "said"),
    [("B", OptionError, "give ROLE=ROLE"), ("B=Z", PromptError, r'has no role "Z" to swap \(its roles: A, B, end\)')],
)
def test_swaps_that_mean_nothing(prompts, swap: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        swapped(prompts, swap)


def test_twins_that_do_not_fit(model, prompts) -> None:
    with pytest.raises(PromptError, match="2 corrupted prompts for 3"):
        patch_prompts(model, prompts, prompts[:2])
    with pytest.raises(PromptError, match="prompt 0: has 6 tokens, its corrupted twin 5"):
        patch_prompts(model, prompts[:1], prompts[1:2])
    unasked = [Prompt(None, (1, 2), ("1", "2"), {"A": 0})]
    with pytest.raises(PromptError, match="lacks an answer or a distractor"):
        patch_prompts(model, unasked, unasked)


@pytest.mark.whole
def test_the_command_writes_a_table_with_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["patch", "--prompts", "ioi:4", "--out", str(out), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {path.name for path in out.iterdir()} == {
        *("patching.parquet", "patching.svg", "patching.png", "manifest.json")
    }
    table = pq.read_table(out / "patching.parquet")
    assert undescribed(out) == []
    assert table.num_rows == 4 * 8 + 4 * 14
    assert content["heads"][0]["recovered"] == max(table["recovered"].to_pylist()[:32], key=abs)
    assert main(["patch", "--prompts", "ioi:4", "--swap", "S2", "--out", str(out)]) == 2
    assert capsys.readouterr().err == 'error: --swap is "S2"; give ROLE=ROLE, for example S2=IO\n'

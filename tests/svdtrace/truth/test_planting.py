"""Planted models: they do what they were made for, and what is called true of them is what their weights do."""

from __future__ import annotations

import numpy as np
import pytest

import gpt2jax
from svdtrace.errors import OutputError, SettingError, TruthError
from svdtrace.truth.circuits import Circuit, Wire
from svdtrace.truth.drawing import SIDES, reading
from svdtrace.truth.families import CONFIG, FAMILIES, SIGNAL
from svdtrace.truth.folder import TRUTH, read_truth, write
from svdtrace.truth.planting import Planted, plant

ROUNDING = 100 * np.finfo(np.float32).eps


@pytest.fixture(scope="module", params=FAMILIES)
def planted(request: pytest.FixtureRequest) -> Planted:
    return plant(request.param)


def tokens(planted: Planted) -> np.ndarray:
    return np.asarray([each.tokens for each in planted.circuit.prompts], np.int32)


def test_heads_look_where_they_shall_and_the_answer_comes_out(planted: Planted):
    out = gpt2jax.forward(planted.model, tokens(planted), taps=["blocks.*.attn.hook_pattern"])
    prompts = planted.circuit.prompts
    assert np.argmax(out.logits[:, -1], axis=-1).tolist() == [each.answer for each in prompts]
    pattern = np.asarray(out.taps["blocks.*.attn.hook_pattern"])
    for wire in planted.circuit.wires:
        layer, head = map(int, wire.reader.split("."))
        for row, prompt in zip(pattern[layer], prompts, strict=True):
            assert row[head, prompt.roles[wire.i], prompt.roles[wire.j]] > 0.98, wire


@pytest.mark.whole
def test_the_true_shares_are_those_of_the_signal_that_was_planted(planted: Planted):
    """Σ_w over the planted subspace alone, by float64 products of the model's own matrices: no singular vectors."""
    prompts, place = planted.circuit.prompts, np.arange(len(planted.circuit.prompts))
    folded = gpt2jax.fold(planted.model).params.blocks
    W_Q, W_K = (np.asarray(each, np.float64) for each in (folded.W_Q, folded.W_K))
    for reader, side, i, j in {wire.place for wire in planted.truth.edges}:
        layer, head = map(int, reader.split("."))
        parts = gpt2jax.residual_contributions(planted.model, tokens(planted), f"blocks.{layer}.hook_resid_pre")
        here, there = (
            np.asarray([each.roles[role] for each in prompts]) for role in ((i, j), (j, i))[SIDES.index(side)]
        )
        values = np.asarray(parts.values, np.float64)
        mine, other = values[place, :, here], values.sum(axis=1)[place, there]
        beside = [wire for wire in planted.truth.edges if wire.place == (reader, side, i, j)]
        signal = planted.truth.signals[beside[0]]
        far = planted.truth.signals[next(w for w in planted.truth.edges if w.place[0] == reader and w.side != side)]
        ours, theirs = (W_Q, W_K) if side == "dest" else (W_K, W_Q)
        Ω = ours[layer, head] @ theirs[layer, head].T
        c = np.einsum("bwd,bd->bw", mine @ signal @ signal.T @ Ω @ far @ far.T, other).mean(axis=0)
        share = dict(zip(parts.labels, c / c.sum(), strict=True))
        for wire in beside:
            assert share.pop(wire.writer) == pytest.approx(planted.truth.edges[wire], abs=0.04), wire
        assert max(map(abs, share.values())) < ROUNDING, share


def test_decoys_write_more_than_what_is_read_and_are_not_true():
    planted = plant("decoys")
    parts = gpt2jax.residual_contributions(planted.model, tokens(planted), "blocks.4.hook_resid_pre")
    for place, prompt in enumerate(planted.circuit.prompts):
        there = dict(zip(parts.labels, np.asarray(parts.values)[place, :, prompt.roles["B"]], strict=True))
        size = {name: np.linalg.norm(value) for name, value in there.items()}
        assert min(size["1.2"], size["3.1"]) > 1.2 * size["1.0"]
        signal = next(P for wire, P in planted.truth.signals.items() if wire.writer == "1.0")
        # All of it lies where 4.0 reads.
        assert np.linalg.norm(there["1.2"] @ signal) > (1 - ROUNDING) * size["1.2"]
    assert not {"1.2", "3.1"} & {wire.writer for wire in planted.truth.edges}


def test_the_two_signals_of_superposition_share_dimensions():
    model, names = plant("superposition").model, (0, 1)
    written = [np.asarray(model.params.blocks.W_O, np.float64)[1, head, :7] for head in names]
    spans = [np.linalg.svd(each)[2][: np.linalg.matrix_rank(each, tol=1e-4)] for each in written]
    assert [len(each) for each in spans] == [6, 6]
    assert np.linalg.svd(spans[0] @ spans[1].T)[1] == pytest.approx(np.full(6, 0.5), abs=1e-5)


def test_signals_are_what_heads_look_for_and_not_what_they_shun():
    signals = plant("inhibition").truth.signals
    rank = {(wire.reader, wire.side): signal.shape[1] for wire, signal in signals.items()}
    assert rank == {
        **dict.fromkeys([("1.0", "dest"), ("1.0", "src")], 4),
        **dict.fromkeys([("1.1", "dest"), ("1.1", "src")], 8),
        **dict.fromkeys([("3.0", "dest"), ("3.0", "src")], 1),
        **dict.fromkeys([("4.0", "dest"), ("4.0", "src")], 3),
    }
    for signal in signals.values():
        assert np.allclose(signal.T @ signal, np.eye(signal.shape[1]), atol=CONFIG.d_model * np.finfo(float).eps)


def test_a_writer_below_half_an_equal_share_is_no_edge():
    wires = [Wire(name, "2.0", "src", "i", "j", amount) for name, amount in (("0.0", 0.7), ("0.1", 0.2), ("0.2", 0.1))]
    circuit = Circuit((*wires, Wire("embed", "2.0", "dest", "i", "j")), "2.0@i:j", ())
    assert {wire.writer: share for wire, share in circuit.edges().items()} == {
        "0.0": pytest.approx(0.7),
        "0.1": pytest.approx(0.2),
        "embed": 1.0,
    }


def test_the_background_has_the_strength_asked_for_and_is_the_same_but_for_that():
    weak, strong = plant("chain", 0.5), plant("chain", 1.0)
    blocks = [each.model.params.blocks for each in (plant("chain"), weak, strong)]
    W_O = [np.asarray(each.W_O, np.float64) for each in blocks]
    assert not W_O[0][2, 3].any()
    assert not np.asarray(blocks[0].W_out).any()
    assert np.allclose(W_O[2][2, 3], 2 * W_O[1][2, 3], rtol=ROUNDING)
    # What was planted stays as it is.
    assert np.array_equal(W_O[0][2, 0], W_O[2][2, 0])
    assert np.array_equal(blocks[0].W_Q[2, 0], blocks[2].W_Q[2, 0])
    folded = gpt2jax.fold(strong.model).params.blocks
    x = np.random.default_rng(0).normal(size=(400, CONFIG.d_model))
    x -= x.mean(axis=1, keepdims=True)
    x /= x.std(axis=1, keepdims=True)
    q, k, v = (x @ np.asarray(each, np.float64)[2, 3] for each in (folded.W_Q, folded.W_K, folded.W_V))
    assert np.std(q @ k.T) / np.sqrt(CONFIG.d_head) == pytest.approx(4.0, rel=0.2)
    size = np.linalg.norm(reading(np.ones((1, 1)))) * 2 * SIGNAL  # of [2, −2]
    assert np.sqrt(np.mean(np.sum((v @ W_O[2][2, 3]) ** 2, axis=1))) == pytest.approx(size, rel=0.2)
    mlp = np.asarray(gpt2jax.residual_contributions(strong.model, tokens(strong), "blocks.1.hook_resid_pre").values)
    assert np.sqrt(np.mean(np.sum(mlp[:, -3] ** 2, axis=-1))) == pytest.approx(size, rel=0.3)


@pytest.mark.parametrize(
    ("given", "message"),
    [(("inductoin",), "choose one of induction"), (("chain", -1.0), "strength"), (("chain", 0.0, -1), "seed is -1")],
)
def test_what_cannot_be_planted_is_said(given: tuple, message: str):
    with pytest.raises(SettingError, match=message):
        plant(*given)


def test_a_truth_that_is_damaged_is_said(tmp_path):
    out = tmp_path / "model"
    write(plant("induction"), out)
    with pytest.raises(OutputError, match="not an empty folder"):
        write(plant("induction"), out)
    for before, after, message in (
        ('"side": "dest", "t": "end"', '"side": "src", "t": "end"', "has side src"),
        ('"roots"', '"root"', "KeyError"),
        ('"signals": [[[', '"signals": [[], [[', "ValueError"),
        ('{"family"', "{family", "not valid JSON"),
    ):
        text = (out / TRUTH).read_text()
        assert before in text
        (tmp_path / TRUTH).write_text(text.replace(before, after, 1))
        with pytest.raises(TruthError, match=message):
            read_truth(tmp_path)
    with pytest.raises(TruthError, match="cannot be read"):
        read_truth(tmp_path / "nowhere")

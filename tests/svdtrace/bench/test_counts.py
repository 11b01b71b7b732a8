"""What is counted is what is computed."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace.bench import plain_forward
from svdtrace.bench.counts import Work, attribution_work, decomposition_work, forward_work

# One layer, since the compiler may count the body of a scan once; wide, since what is not a product is not counted.
CONFIG = gpt2jax.GPT2Config(n_layers=1, n_heads=4, d_model=256, d_mlp=1024, n_ctx=16, d_vocab=40)


def test_a_forward_pass_is_as_much_as_the_compiler_counts():
    leaves, tree = jax.tree.flatten(gpt2jax.random_model(CONFIG, jax.random.key(0)).params)
    run = jax.jit(lambda leaves, tokens: plain_forward(CONFIG, jax.tree.unflatten(tree, leaves), tokens))
    counted = run.lower(leaves, np.zeros((3, 16), np.int32)).compile().cost_analysis()
    if not counted or "flops" not in counted:
        pytest.skip("this device's compiler does not count")
    # Norms, softmax and activation: about 15 FLOP for each of a token's 1024 MLP values, of 1.6 million in all.
    assert forward_work(CONFIG, 3, 16).flop == pytest.approx(counted["flops"], rel=0.03)


def test_a_forward_pass_grows_with_layers_prompts_and_weights():
    one = forward_work(CONFIG, 3, 16)
    assert forward_work(gpt2jax.GPT2Config(2, 4, 256, 1024, 16, 40), 3, 16) == one + one
    assert forward_work(CONFIG, 6, 16).flop == 2 * one.flop
    weights = 4 * (4 * 256**2 + 2 * 256 * 1024)
    assert one.moved == weights + 4 * 2 * 3 * 16 * 256


def test_a_decomposition_by_hand():
    config = gpt2jax.GPT2Config(n_layers=1, n_heads=1, d_model=3, d_mlp=4, n_ctx=4, d_vocab=4)
    # m = 4, h = 3: two QRs of 144 − 36, a product of 54, an SVD of 567, vectors of 2 × 72.
    assert decomposition_work(config) == Work(flop=2 * 108 + 54 + 567 + 144, moved=4 * (4 * 12 + 3))


def test_contributions_firing_by_firing():
    config = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=4, n_ctx=4, d_vocab=4)
    firings = np.asarray([[0, 0], [3, 0], [1, 2]])
    flop, values = 0, 0
    for layer in range(3):
        for head in range(2):
            writers, many = 2 * layer, firings[layer, head]
            values += 2 * writers * 16 if many else 0
            for _ in range(many):
                values += 2 * 4
                for _ in range(2 * writers):
                    flop += 2 * 4 * 4
                    values += 4 + 1
    assert attribution_work(config, firings, 2) == Work(flop=flop, moved=4 * values)


def test_nothing_to_do_has_no_intensity():
    assert Work(0, 0).intensity == 0
    assert Work(6, 3).intensity == 2

"""What every component wrote, and its direct effect on logits, against the oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from running_bound import EPS64, close, truth
from small_model import Arrays, jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax.errors import ActivationNameError, InputError

POINTS = [*(f"blocks.{layer}.hook_resid_{at}" for layer in (0, 1) for at in ("pre", "mid", "post")), "final"]


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def case(processing: str) -> tuple[Arrays, dict, gpt2jax.Model]:
    params, config = small_model(seed=21)
    params = {name: np.float64(value) for name, value in params.items()}
    if processing == "folded":
        params = oracle.fold(params)
    model = jax_model(params, config, jnp.float64)
    assert model.processing == processing
    return params, config, model


def components(params: Arrays, config: dict, acts: Arrays, prompt: int, at: str) -> dict[str, np.ndarray]:
    """The oracle's writers before a point, [tok d_model] each, by name."""
    own = {name: value[:, prompt] for name, value in acts.items() if name in ("head_out", "mlp_out")}
    own |= {name: acts[name][prompt] for name in ("embed", "pos")}
    layer = config["n_layers"] if at == "final" else int(at.split(".")[1])
    found = {}
    for writer in oracle.writers(config, config["n_layers"])[:-1]:
        past = writer.layer is None or writer.layer < layer or (writer.layer == layer and not at.endswith("pre"))
        if writer.kind == "mlp" and writer.layer == layer:
            past = at.endswith("post")
        if past:
            tokens = range(len(own["embed"]))
            found[writer.name] = np.stack([oracle.written(params, own, writer, token) for token in tokens])
    return found


def test_directions_are_between_tokens_that_there_are(float64: None) -> None:
    _, config, model = case("raw")
    for answer, distractor, name in ((config["d_vocab"], 0, "answer"), (0, -1, "distractor")):
        with pytest.raises(InputError, match=f"{name} -?\\d+ is outside 0 to {config['d_vocab'] - 1}; give token ids"):
            gpt2jax.logit_direction(model, np.array([answer], np.int32), np.array([distractor], np.int32))


@pytest.mark.parametrize("processing", ["raw", "folded"])
def test_components_sum_to_the_residual_at_every_point(processing: str, float64: None) -> None:
    params, config, model = case(processing)
    tokens = random_tokens(2, 5, config)
    acts, bound = truth(params, config, tokens, EPS64)
    for at in POINTS:
        parts = gpt2jax.residual_contributions(model, tokens, at)
        off = np.max(bound["head_out"], axis=(0, 3)) + np.max(bound["mlp_out"], axis=0)[:, :]
        for prompt in range(len(tokens)):
            expected = components(params, config, acts, prompt, at)
            assert list(parts.labels) == list(expected), at
            values = np.stack(list(expected.values()))
            assert close(parts.values[prompt], values, np.broadcast_to(off[prompt], values.shape)), at
        name, layer = ("resid_post", -1) if at == "final" else (at.rpartition("hook_")[2], int(at.split(".")[1]))
        assert close(np.sum(parts.values, axis=1), acts[name][layer], len(parts.labels) * off)
        assert close(parts.scale[..., 0], acts["ln_final_scale"], bound["ln_final_scale"])


@pytest.mark.parametrize("processing", ["raw", "folded"])
def test_effects_sum_to_the_logit_difference(processing: str, float64: None) -> None:
    params, config, model = case(processing)
    tokens = random_tokens(2, 5, config)
    answer, distractor = np.array([3, 19]), np.array([7, 0])
    acts, bound = truth(params, config, tokens, EPS64)
    parts = gpt2jax.residual_contributions(model, tokens)
    direction = gpt2jax.logit_direction(model, answer, distractor)
    assert np.array_equal(direction, (params["W_U"][:, answer] - params["W_U"][:, distractor]).T)
    effects, constant = gpt2jax.logit_effects(model, parts, direction)
    logits = gpt2jax.forward(model, tokens).logits
    for prompt, (yes, no) in enumerate(zip(answer, distractor, strict=True)):
        own = {name: value[:, prompt] for name, value in acts.items() if value.shape[0] == 2 and value.ndim > 3}
        own |= {name: acts[name][prompt] for name in ("embed", "pos", "ln_final_scale", "logits")}
        offset = params["b_U"][yes] - params["b_U"][no]
        for token in range(tokens.shape[1]):
            *expected, const = oracle.direct_effects(params, config, own, token, yes, no)
            assert [writer.name for writer, _ in expected] == list(parts.labels)
            values = np.array([value for _, value in expected])
            # A component's bound, read by a direction whose entries are below max|a|, and the scale's.
            reach = np.sum(np.abs(np.asarray(direction[prompt]))) / acts["ln_final_scale"][prompt, token]
            reach *= np.max(np.abs(params.get("ln_final_w", 1.0)))
            off = np.max(bound["resid_post"]) * reach + np.max(np.abs(values)) * (
                bound["ln_final_scale"][prompt, token] / acts["ln_final_scale"][prompt, token] + 20 * EPS64
            )
            assert close(effects[prompt, :, token], values, np.full(len(values), off))
            assert abs(float(constant[prompt]) + offset - const[1]) <= 20 * EPS64 * reach
            found = float(jnp.sum(effects[prompt, :, token]) + constant[prompt]) + offset
            difference = float(logits[prompt, token, yes] - logits[prompt, token, no])
            assert abs(found - difference) <= len(values) * off + 2 * np.max(bound["logits"][prompt, token])


def test_one_direction_for_all_prompts(float64: None) -> None:
    params, config, model = case("raw")
    parts = gpt2jax.residual_contributions(model, random_tokens(2, 5, config))
    direction = jnp.asarray(params["W_U"][:, 4])
    one, constant = gpt2jax.logit_effects(model, parts, direction)
    each, _ = gpt2jax.logit_effects(model, parts, jnp.stack([direction, direction]))
    assert np.array_equal(one, each)
    assert constant.shape == (2,)


def test_padding_changes_no_contribution(float64: None) -> None:
    params, config, model = case("raw")
    tokens = random_tokens(2, 5, config)
    acts, bound = truth(params, config, tokens[:, 2:], EPS64)
    positions, mask = np.array([[0, 0, 0, 1, 2]] * 2), np.array([[False, False, True, True, True]] * 2)
    parts = gpt2jax.residual_contributions(model, tokens, mask=mask, positions=positions)
    head = parts.values[:, parts.labels.index("1.2"), 2:]
    assert close(head, acts["head_out"][1, :, :, 2], bound["head_out"][1, :, :, 2])


@pytest.mark.parametrize("at", ["blocks.2.hook_resid_pre", "blocks.0.hook_resid", "blocks.*.hook_resid_pre", ""])
def test_points_that_there_are_not(at: str) -> None:
    params, config = small_model(seed=21)
    with pytest.raises(ActivationNameError, match="L from 0 to 1, or final"):
        gpt2jax.residual_contributions(jax_model(params, config), random_tokens(1, 2, config), at)


@pytest.mark.full
def test_logit_effects_of_half_precision_weights():
    """Weights in bfloat16 give effects in float32 that still sum to the logit difference of that very model."""
    config = gpt2jax.GPT2Config(n_layers=2, n_heads=2, d_model=16, d_mlp=32, n_ctx=8, d_vocab=20)
    model = gpt2jax.random_model(config, jax.random.key(1), std=0.4, biases=0.3)
    half = dataclasses.replace(model, params=jax.tree.map(lambda array: array.astype(jnp.bfloat16), model.params))
    tokens, answer, distractor = np.array([[3, 1, 4, 1, 5]]), np.array([2]), np.array([7])
    direction = gpt2jax.logit_direction(half, answer, distractor)
    effects, constant = gpt2jax.logit_effects(half, gpt2jax.residual_contributions(half, tokens), direction)
    assert effects.dtype == jnp.float32
    out = gpt2jax.forward(half, tokens, taps=["ln_final.hook_normalized"])
    read = np.asarray(out.taps["ln_final.hook_normalized"])[0, -1]
    logits = out.logits[0, -1]
    error = abs(float(effects[0, :, -1].sum() + constant[0] - (logits[2] - logits[7])))
    # Each entry of the direction, a difference of two bfloat16 numbers, is rounded once, by half an eps of itself;
    # float32 adds far less.
    rounding = float(jnp.finfo(jnp.bfloat16).eps) * np.sum(np.abs(read) * np.abs(np.asarray(direction, np.float32)[0]))
    assert error <= rounding

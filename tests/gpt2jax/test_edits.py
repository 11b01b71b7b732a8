"""Hooks: an edit of a value equals the edit of the weights that has the same effect, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running_bound import EPS64, agrees_with_differences, close, truth
from small_model import Arrays, jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax import edits
from gpt2jax.errors import ActivationNameError
from gpt2jax.sites import BLOCK_SITES, STEM_SITES, Hook

RNG = np.random.default_rng(0)
WAY, HEAD_WAY, MLP_WAY = RNG.normal(size=12), RNG.normal(size=4), RNG.normal(size=20)
Change = Callable[[Arrays], None]


def plus(name: str, place: object, what: np.ndarray) -> Change:
    def change(params: Arrays) -> None:
        params[name][place] += what

    return change


def times(place: object, factor: float, *names: str) -> Change:
    def change(params: Arrays) -> None:
        for name in names:
            params[name][place] *= factor

    return change


def groups() -> dict[str, dict[str, tuple[Hook, Change]]]:
    """Each site with a hook and the change of weights that has its effect; a group's are made together."""
    way, head_way, mlp_way = map(jnp.asarray, (WAY, HEAD_WAY, MLP_WAY))
    return {
        "stem": {
            "hook_embed": (edits.add(way), plus("W_E", ..., WAY)),
            "hook_pos_embed": (edits.scale(0.5), times(..., 0.5, "W_pos")),
            "ln_final.hook_scale": (edits.scale(2.0), times(..., 0.5, "ln_final_w")),
            "ln_final.hook_normalized": (edits.add(way), plus("ln_final_b", ..., WAY)),
        },
        "reading": {
            "blocks.1.ln1.hook_scale": (edits.scale(2.0), times(1, 0.5, "ln1_w")),
            "blocks.1.ln1.hook_normalized": (edits.add(way), plus("ln1_b", 1, WAY)),
            "blocks.1.attn.hook_q": (edits.scale(1.5), times(1, 1.5, "W_Q", "b_Q")),
            "blocks.0.attn.hook_k": (edits.on_head(1, edits.zero()), times((0, 1), 0.0, "W_K", "b_K")),
            "blocks.1.attn.hook_v": (edits.on_head(0, edits.add(head_way)), plus("b_V", (1, 0), HEAD_WAY)),
        },
        "attention": {
            "blocks.1.attn.hook_attn_scores": (
                edits.on_pattern_head(2, edits.scale(0.5)),
                times((1, 2), 0.5, "W_Q", "b_Q"),
            ),
            "blocks.0.attn.hook_pattern": (edits.on_pattern_head(0, edits.zero()), times((0, 0), 0.0, "W_O")),
            "blocks.1.attn.hook_z": (edits.on_head(1, edits.zero()), times((1, 1), 0.0, "W_O")),
            "blocks.0.hook_attn_out": (edits.add(way), plus("b_O", 0, WAY)),
        },
        "results": {
            "blocks.0.attn.hook_result": (edits.on_head(2, edits.scale(3.0)), times((0, 2), 3.0, "W_O")),
            "blocks.1.hook_resid_mid": (edits.add(way), plus("b_O", 1, WAY)),
            "blocks.0.hook_resid_pre": (edits.add(way), plus("W_pos", ..., WAY)),
            "blocks.*.attn.hook_result": (edits.on_head(0, edits.zero()), times((slice(None), 0), 0.0, "W_O")),
        },
        "mlp": {
            "blocks.1.ln2.hook_scale": (edits.scale(2.0), times(1, 0.5, "ln2_w")),
            "blocks.0.ln2.hook_normalized": (edits.add(way), plus("ln2_b", 0, WAY)),
            "blocks.*.mlp.hook_pre": (edits.add(mlp_way), plus("b_in", ..., MLP_WAY)),
            "blocks.1.mlp.hook_post": (edits.scale(0.5), times(1, 0.5, "W_out")),
            "blocks.0.hook_mlp_out": (edits.zero(), times(0, 0.0, "W_out", "b_out")),
            "blocks.1.hook_resid_post": (edits.add(way), plus("b_out", 1, WAY)),
        },
    }


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def wide(seed: int) -> tuple[Arrays, dict]:
    params, config = small_model(seed)
    return {name: np.float64(value) for name, value in params.items()}, config


@pytest.mark.parametrize("group", ["stem", "reading", "attention", "results", "mlp"])
def test_a_hook_equals_the_edit_of_the_weights(group: str, float64: None) -> None:
    made = groups()
    named = {name.split(".", 2)[2] if name.startswith("blocks") else name for each in made.values() for name in each}
    assert named == {*STEM_SITES, *BLOCK_SITES}
    params, config = wide(seed=11)
    model, tokens = jax_model(params, config, jnp.float64), random_tokens(2, 6, config)
    plain, _ = truth(params, config, tokens, EPS64)
    for _, change in made[group].values():
        change(params)
    expected, bound = truth(params, config, tokens, EPS64)
    assert np.max(np.abs(plain["logits"] - expected["logits"])) > 0.1
    hooks = {name: hook for name, (hook, _) in made[group].items()}
    assert close(gpt2jax.forward(model, tokens, hooks=hooks).logits, expected["logits"], bound["logits"])


def test_hooks_run_in_the_order_given() -> None:
    params, config = small_model(seed=12)
    model, tokens = jax_model(params, config), random_tokens(1, 3, config)
    fixed, doubled = edits.replace(jnp.asarray(WAY, jnp.float32)), edits.scale(2.0)
    taps = ["blocks.*.hook_mlp_out"]

    def written(hooks: dict) -> np.ndarray:
        return np.asarray(gpt2jax.forward(model, tokens, taps=taps, hooks=hooks).taps[taps[0]])

    expected = np.broadcast_to(np.float32(WAY), (2, 1, 3, 12))
    first = written({"blocks.*.hook_mlp_out": fixed, "blocks.1.hook_mlp_out": doubled})
    assert np.array_equal(first[0], expected[0])
    assert np.array_equal(first[1], 2 * expected[1])
    then = written({"blocks.1.hook_mlp_out": doubled, "blocks.*.hook_mlp_out": fixed})
    assert np.array_equal(then, expected)


def test_patching_brings_the_other_prompts_future(float64: None) -> None:
    """What is patched with its own value stays; patched with another prompt's residual, all that follows is that's."""
    params, config = wide(seed=13)
    model = jax_model(params, config, jnp.float64)
    tokens = random_tokens(4, 5, config)
    expected, bound = truth(params, config, tokens, EPS64)
    resid = jnp.asarray(expected["resid_post"][0])

    @jax.jit
    def patched(value: jax.Array) -> jax.Array:
        return gpt2jax.forward(model, tokens, hooks={"blocks.0.hook_resid_post": edits.replace(value)}).logits

    assert close(patched(resid), expected["logits"], bound["logits"])
    assert close(patched(resid[::-1]), expected["logits"][::-1], bound["logits"][::-1])


def test_vmap_over_edits_is_a_loop_over_them(float64: None) -> None:
    params, config = wide(seed=14)
    model, tokens = jax_model(params, config, jnp.float64), random_tokens(2, 5, config)

    def edited(head: jax.Array, factor: jax.Array) -> jax.Array:
        hooks = {"blocks.1.attn.hook_z": edits.on_head(head, edits.scale(factor))}
        return gpt2jax.forward(model, tokens, hooks=hooks).logits

    heads, factors = jnp.array([0, 1, 2, 1]), jnp.array([0.0, 0.0, -1.0, 2.0])
    together = jax.jit(jax.vmap(edited))(heads, factors)
    alone = jax.jit(edited)
    for place, (head, factor) in enumerate(zip(heads, factors, strict=True)):
        changed = params | {"W_O": params["W_O"].copy()}
        changed["W_O"][1, int(head)] *= float(factor)
        expected, bound = truth(changed, config, tokens, EPS64)
        assert close(together[place], expected["logits"], bound["logits"])
        assert close(alone(head, factor), expected["logits"], bound["logits"])


def test_gradient_through_hooks_is_the_difference_quotient(float64: None) -> None:
    params, config = wide(seed=15)
    model, tokens = jax_model(params, config, jnp.float64), random_tokens(2, 5, config)

    @jax.jit
    @jax.value_and_grad
    def difference(strength: jax.Array) -> jax.Array:
        steer = edits.on_token(2, edits.add(strength * jnp.asarray(WAY)))
        hooks = {
            "blocks.0.hook_resid_post": steer,
            "blocks.*.attn.hook_pattern": edits.on_pattern_head(1, edits.scale(jnp.exp(strength))),
        }
        logits = gpt2jax.forward(model, tokens, hooks=hooks).logits
        return jnp.sum(logits[:, -1, 3] - logits[:, -1, 7])

    slope = float(difference(jnp.asarray(0.0))[1])
    assert abs(slope) > 1e-2
    assert agrees_with_differences(lambda strength: float(difference(jnp.asarray(strength))[0]), slope)


def test_nothing_leaks_between_calls() -> None:
    params, config = small_model(seed=16)
    model, tokens = jax_model(params, config), random_tokens(2, 5, config)

    def fails(value: jax.Array) -> jax.Array:
        raise RuntimeError("a hook's own failure")

    def hooked(factor: float) -> np.ndarray:
        return np.asarray(gpt2jax.forward(model, tokens, hooks={"hook_embed": edits.scale(factor)}).logits)

    before = np.asarray(gpt2jax.forward(model, tokens).logits)
    seen = [hooked(0.0), hooked(2.0)]
    with pytest.raises(RuntimeError, match="own failure"):
        gpt2jax.forward(model, tokens, hooks={"hook_embed": fails})
    after = np.asarray(gpt2jax.forward(model, tokens).logits)
    assert np.array_equal(before, after)
    # The same code with another constant is another hook.
    for left, right in ((seen[0], seen[1]), (seen[0], before), (seen[1], before)):
        assert np.max(np.abs(left - right)) > 0.1


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("blocks.1.attn.hook_z", r"attn.hook_z returned shape \(2, 5, 3\), but the value has shape \(2, 5, 3, 4\)"),
        ("blocks.*.hook_mlp_out", r"hook_mlp_out returned shape \(2, 5\), but the value has shape \(2, 5, 12\)"),
        ("hook_embed", r"hook_embed returned shape \(2, 5\), but the value has shape \(2, 5, 12\)"),
    ],
)
def test_a_result_of_another_shape_is_refused(name: str, shapes: str) -> None:
    params, config = small_model(seed=16)
    model, tokens = jax_model(params, config), random_tokens(2, 5, config)
    with pytest.raises(ActivationNameError, match=shapes):
        gpt2jax.forward(model, tokens, hooks={name: lambda value: value[..., 0]})


def test_a_result_of_another_dtype_is_made_into_the_values() -> None:
    params, config = small_model(seed=16)
    model, tokens = jax_model(params, config), random_tokens(2, 5, config)
    hooks = {"hook_pos_embed": lambda value: np.ones(value.shape, np.int32)}
    found = gpt2jax.forward(model, tokens, hooks=hooks, taps=["hook_pos_embed"]).taps["hook_pos_embed"]
    assert found.dtype == jnp.float32
    assert np.all(found == 1)


def test_ready_made_hooks_edit_what_they_name() -> None:
    value = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4, 5)), jnp.float32)
    array = np.asarray(value)
    assert np.array_equal(edits.zero()(value), 0 * array)
    assert np.array_equal(edits.replace(value[0, 0, 0])(value), np.broadcast_to(array[0, 0, 0], array.shape))
    assert np.array_equal(edits.add(value[1])(value), array + array[1])
    assert np.array_equal(edits.scale(2.0)(value), 2 * array)
    for hook, place in (
        (edits.on_head(1, edits.scale(2.0)), np.s_[:, :, 1]),
        (edits.on_pattern_head(1, edits.scale(2.0)), np.s_[:, 1]),
        (edits.on_token(2, edits.scale(2.0)), np.s_[:, 2]),
        (edits.on_head(0, edits.on_token(2, edits.scale(2.0))), np.s_[:, 2, 0]),
    ):
        expected = array.copy()
        expected[place] *= 2
        assert np.array_equal(hook(value), expected)

"""Patching: all sites at once equal one after another by hooks, and a hook's arrays are compiled once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from running_bound import EPS64
from small_model import jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax import edits, patching
from gpt2jax.errors import ActivationNameError, InputError
from gpt2jax.sites import BLOCK_SITES, STEM_SITES

N_LAYERS = 3


def difference(logits: Array) -> Array:
    """A number for each prompt."""
    return logits[:, -1, 3] - logits[:, -2, 5]


def of_tokens(logits: Array, asked: Any) -> Array:
    answer, distractor = asked
    last = logits[:, -1]
    taken = (jnp.take_along_axis(last, each[:, None], axis=1) for each in (answer, distractor))
    return jnp.mean(next(taken) - next(taken))


@pytest.fixture(scope="module")
def runs():
    """A model in float64 and two batches of prompts, the last token of one of them no real one."""
    with jax.enable_x64():
        model = jax_model(*small_model(n_layers=N_LAYERS), dtype=jnp.float64)
        clean, corrupt = (random_tokens(2, 6, {"d_vocab": model.config.d_vocab}, seed) for seed in (1, 2))
        mask = np.ones(clean.shape, bool)
        mask[1, -1] = False
        yield model, clean, corrupt, mask


def logits_of(*given: Any, **options: Any) -> Array:
    found = gpt2jax.forward(*given, **options).logits
    assert found is not None
    return found


def close(found: Array, wanted: Array, model: gpt2jax.Model) -> bool:
    """Within the rounding of a run's sums, of which there is one for each parameter of a token's way."""
    sums = model.config.n_layers * (model.config.d_model + model.config.d_mlp) * 8
    return bool(np.max(np.abs(np.asarray(found) - np.asarray(wanted))) <= sums * EPS64 * np.max(np.abs(wanted)))


@pytest.mark.parametrize(
    ("site", "by"),
    [
        ("attn.hook_z", ("head",)),
        pytest.param("attn.hook_pattern", ("head", "dest"), marks=pytest.mark.full),
        ("hook_resid_pre", ("tok",)),
        pytest.param("attn.hook_q", ("tok", "head"), marks=pytest.mark.full),
        pytest.param("mlp.hook_post", (), marks=pytest.mark.full),
        pytest.param("attn.hook_result", ("head",), marks=pytest.mark.full),
    ],
)
def test_all_at_once_equals_one_after_another(runs, site: str, by: tuple[str, ...], monkeypatch) -> None:
    """Catches another layer's value, a start from the wrong residual, an index of another axis, rows lost in blocks."""
    model, clean, corrupt, mask = runs
    # Several blocks, the last one filled up.
    monkeypatch.setattr(patching, "MOST_BYTES", 2 * corrupt.size * model.config.d_vocab * 4)
    found = gpt2jax.patch(model, clean, corrupt, f"blocks.*.{site}", difference, by=by, mask=mask)
    source = gpt2jax.forward(model, clean, mask=mask, taps=f"blocks.*.{site}").taps[f"blocks.*.{site}"]
    axes = BLOCK_SITES[site].split()
    sizes = [source.shape[1 + axes.index(axis)] for axis in by]
    assert found.shape == (N_LAYERS, *sizes, 2)

    def taken(layer: int, place: tuple[int, ...]) -> Any:
        def put(value: Array) -> Array:
            here = [slice(None)] * value.ndim
            for axis, index in zip(by, place, strict=True):
                here[axes.index(axis)] = index
            return value.at[tuple(here)].set(source[layer][tuple(here)])

        return put

    for layer in (0, N_LAYERS - 1):
        name = f"blocks.{layer}.{site}"
        for place in list(np.ndindex(*sizes))[-2:]:
            hooks = {name: taken(layer, place)}
            wanted = difference(logits_of(model, corrupt, mask=mask, hooks=hooks))
            assert close(found[(layer, *place)], wanted, model)


@pytest.mark.whole
def test_several_sites_and_those_outside_the_blocks(runs) -> None:
    model, clean, corrupt, mask = runs
    names = ["hook_embed", "blocks.1.hook_mlp_out", "ln_final.hook_scale"]
    asked = (jnp.array([3, 4], jnp.int32), jnp.array([5, 6], jnp.int32))
    found = gpt2jax.patch(model, clean, corrupt, names, (of_tokens, asked), mask=mask)
    taps = gpt2jax.forward(model, clean, mask=mask, taps=names).taps
    assert found.shape == (3,)
    for name, value in zip(names, found, strict=True):
        logits = logits_of(model, corrupt, mask=mask, hooks={name: edits.replace(taps[name])})
        assert close(value, of_tokens(logits, asked), model)
    alone = gpt2jax.patch(model, clean, corrupt, names[1], (of_tokens, asked), mask=mask)
    assert alone.shape == ()
    assert alone == found[1]


def test_a_run_patched_with_itself_is_that_run(runs) -> None:
    model, clean, _, mask = runs
    found = gpt2jax.patch(model, clean, clean, "blocks.*.attn.hook_z", difference, mask=mask)
    wanted = difference(logits_of(model, clean, mask=mask))
    assert close(found, jnp.broadcast_to(wanted, found.shape), model)


def test_a_hooks_arrays_are_arguments(runs) -> None:
    """Catches a program for every array, and arrays of an earlier call."""
    model, clean, corrupt, _ = runs
    name = "blocks.1.attn.hook_z"
    z = gpt2jax.forward(model, clean, taps=name).taps[name]

    traced = []

    def put(value: Array, other: Array) -> Array:
        traced.append(value)
        return value.at[:, :, 1].set(other)

    counts = []
    for factor in (1.0, 2.0):
        given = factor * z[:, :, 1]
        mine = logits_of(model, corrupt, hooks={name: (put, given)})
        other = logits_of(model, corrupt, hooks={name: edits.on_head(1, edits.replace(given))})
        assert close(mine, other, model)
        counts.append(len(traced))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clean": np.zeros((2, 5), np.int32)}, r"clean has shape \(2, 5\), corrupt \(2, 6\)"),
        ({"sites": []}, "no site is given"),
        ({"sites": "blocks.*.hook_mlp_out", "by": "head"}, 'no axis "head"; its axes are prompt tok d_model'),
        ({"metric": (3, ())}, "the metric is a tuple; give a function of logits"),
        ({"by": "prompt"}, 'no axis "prompt"'),
    ],
)
def test_what_cannot_be_patched_says_what_was_wanted(runs, change: dict[str, Any], said: str) -> None:
    model, clean, corrupt, _ = runs
    given = {"clean": clean, "corrupt": corrupt, "sites": "blocks.*.attn.hook_z", "metric": difference, **change}
    with pytest.raises(InputError, match=said):
        gpt2jax.patch(model, **given)
    with pytest.raises(ActivationNameError, match="near names"):
        gpt2jax.patch(model, clean, corrupt, "blocks.*.hook_zz", difference)


@pytest.mark.whole
def test_every_site_can_be_patched() -> None:
    """Catches a site that starts nowhere: each, for its shape alone."""
    model = jax_model(*small_model(n_layers=N_LAYERS))
    tokens = random_tokens(2, 6, {"d_vocab": model.config.d_vocab})
    for site in [*STEM_SITES, *(f"blocks.1.{site}" for site in BLOCK_SITES)]:
        shape = jax.eval_shape(lambda site=site: gpt2jax.patch(model, tokens, tokens, site, difference, by=()))
        assert shape.shape == (2,)

"""The fingerprint: what the model computes with decides it, and nothing else."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import jax_model, small_model

import gpt2jax

LEAVES = [
    *(f"blocks.{kind}_{name}" for name in ("Q", "K", "V", "O", "in", "out") for kind in "Wb"),
    *(f"{norm}.{each}" for norm in ("blocks.ln1", "blocks.ln2", "ln_final") for each in "wb"),
    *("W_E", "W_pos", "W_U", "b_U"),
]


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return jax_model(*small_model(seed=51))


def changed(tree: object, path: list[str], edit: object) -> object:
    """The same parameters with one leaf edited."""
    name, *rest = path
    value = getattr(tree, name)
    return tree.replace(**{name: changed(value, rest, edit) if rest else edit(value)})


def other(model: gpt2jax.Model, leaf: str, edit: object) -> str:
    return gpt2jax.fingerprint(model.replace(params=changed(model.params, leaf.split("."), edit)))


def test_the_leaves_are_all_that_there_are(model: gpt2jax.Model) -> None:
    assert len(LEAVES) == len(jax.tree.leaves(model.params))


@pytest.mark.parametrize("leaf", LEAVES)
def test_any_single_weight_decides(model: gpt2jax.Model, leaf: str) -> None:
    """By one unit in its last place; in its last entry as in its first."""

    def nudged(place: int) -> object:
        def edit(array: jax.Array) -> jax.Array:
            copy = np.array(array).ravel()
            copy[place] = np.nextafter(copy[place], np.float32(np.inf))
            return jnp.asarray(copy.reshape(array.shape))

        return edit

    names = {gpt2jax.fingerprint(model), other(model, leaf, nudged(0)), other(model, leaf, nudged(-1))}
    assert len(names) == 3


def test_what_is_there_decides(model: gpt2jax.Model) -> None:
    params, blocks = model.params, model.params.blocks
    zero = params.replace(b_U=jnp.zeros(23))
    versions = [
        params,
        params.replace(blocks=blocks.replace(W_Q=blocks.W_K, W_K=blocks.W_Q)),
        zero,
        zero.replace(b_U=None),
        params.replace(W_U=None, b_U=None),
    ]
    assert len({gpt2jax.fingerprint(model.replace(params=each)) for each in versions}) == len(versions)


def test_names_dtypes_and_shapes_decide_where_bytes_are_the_same(model: gpt2jax.Model) -> None:
    nothing = gpt2jax.Blocks(**dict.fromkeys(vars(model.params.blocks)))
    zeros = jnp.zeros((2, 3, 12, 4), jnp.float16)
    versions = [
        nothing.replace(W_Q=zeros),
        nothing.replace(W_K=zeros),
        nothing.replace(W_Q=zeros.astype(jnp.bfloat16)),
        nothing.replace(W_Q=zeros.reshape(2, 3, 4, 12)),
    ]
    empty = gpt2jax.Params(W_E=None, W_pos=None, blocks=nothing, ln_final=None)
    names = {gpt2jax.fingerprint(model.replace(params=empty.replace(blocks=each))) for each in versions}
    assert len(names) == len(versions)


def test_processing_and_configuration_decide(model: gpt2jax.Model) -> None:
    settings = {
        "layer_norm_epsilon": 2e-5,
        "activation": "gelu",
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "n_heads": 6,
    }
    others = [dataclasses.replace(model.config, **{name: value}) for name, value in settings.items()]
    names = {gpt2jax.fingerprint(model.replace(config=config)) for config in others}
    names |= {gpt2jax.fingerprint(model), gpt2jax.fingerprint(model.replace(processing="folded"))}
    assert len(names) == len(settings) + 2


def test_tokenizer_layout_and_token_ids_do_not(model: gpt2jax.Model) -> None:
    named = dataclasses.replace(model.config, bos_token_id=1, eos_token_id=2)
    for each in (model.replace(tokenizer=object()), model.replace(layout=object()), model.replace(config=named)):
        assert gpt2jax.fingerprint(each) == gpt2jax.fingerprint(model)


def test_it_is_a_sha256_that_stays_the_same(model: gpt2jax.Model) -> None:
    found = gpt2jax.fingerprint(model)
    assert len(found) == 64
    assert int(found, 16) >= 0
    copy = model.replace(params=jax.tree.map(jnp.array, model.params))
    assert gpt2jax.fingerprint(copy) == found

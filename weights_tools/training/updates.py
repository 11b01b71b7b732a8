"""Training of the bundled model: next-token prediction on the language of `svdtrace.prompts.language`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import gpt2jax
from gpt2jax import GPT2Config, Model, Params
from gpt2jax.errors import InputError
from svdtrace.prompts import language
from weights_tools.training.kept import Kept
from weights_tools.training.packing import Rows, packed_rows
from weights_tools.training.recipe import Recipe
from weights_tools.training.vocabulary import language_tokenizer

OnStep = Callable[[int, float, Model], None]
Keep = Callable[[Kept], None]


def train(
    recipe: Recipe, on_step: OnStep | None = None, *, kept: Kept | None = None, keep: Keep | None = None, every: int = 1
) -> Model:
    """Train a model from random weights, or go on from where training was kept, to the same weights bit for bit.

    Args:
        on_step: called after every update with its number (from 1), its loss, and the model as it is then.
        kept: training of the same recipe that was interrupted.
        keep: called after every `every` updates but the last with how far training is.

    Raises:
        InputError: what was kept is not of such a model.
    """
    tokenizer = language_tokenizer()
    model = start(recipe, tokenizer)
    # The optimiser's own trees (one norm a leaf, say) are no parameters of a model: it gets a plain list.
    leaves, structure = jax.tree.flatten(model.params)
    optimiser = _optimiser(recipe, _matrices(model.params))
    state = optimiser.init(leaves)
    random = Random(recipe.seed)
    if kept is not None:
        leaves, state = _restored((leaves, state), kept)
        random.setstate(kept.random)

    def loss_of(leaves: list[Array], rows: Rows) -> Array:
        return next_token_loss(replace(model, params=structure.unflatten(leaves)), rows, recipe.emphasis)

    @jax.jit
    def update(leaves: Any, state: Any, rows: Rows) -> tuple[Any, Any, Array]:
        loss, gradient = jax.value_and_grad(loss_of)(leaves, rows)
        change, state = optimiser.update(gradient, state, leaves)
        return optax.apply_updates(leaves, change), state, loss

    next_document = partial(language.document, random, language.Words())
    shape = (recipe.rows, recipe.n_ctx)
    rows = packed_rows(next_document, tokenizer, shape)
    for step in range(1 if kept is None else kept.step + 1, recipe.steps + 1):
        leaves, state, loss = update(leaves, state, rows)
        before = random.getstate()
        # The next rows are made while this update is computed.
        rows = packed_rows(next_document, tokenizer, shape)
        if on_step is not None:
            on_step(step, float(loss), replace(model, params=structure.unflatten(leaves)))
        if keep is not None and step % every == 0 and step < recipe.steps:
            keep(Kept(step, tuple(map(np.asarray, jax.tree.leaves((leaves, state)))), before))
    return replace(model, params=structure.unflatten(leaves))


def _restored(trees: Any, kept: Kept) -> Any:
    """Parameters and optimiser's state from the leaves that were kept."""
    leaves, structure = jax.tree.flatten(trees)
    shapes = [(np.shape(each), np.asarray(each).dtype) for each in leaves]
    if [(each.shape, each.dtype) for each in kept.arrays] != shapes:
        raise InputError("what was kept of training is not of this model; delete it to begin anew")
    return structure.unflatten([jnp.asarray(each) for each in kept.arrays])


def start(recipe: Recipe, tokenizer: gpt2jax.Tokenizer) -> Model:
    """The model before its first update."""
    config = GPT2Config(
        n_layers=recipe.n_layers,
        n_heads=recipe.n_heads,
        d_model=recipe.d_model,
        d_mlp=4 * recipe.d_model,
        n_ctx=recipe.n_ctx,
        d_vocab=tokenizer.d_vocab,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.bos_token_id,
    )
    model = gpt2jax.random_model(config, jax.random.key(recipe.seed), std=recipe.std)
    return replace(model, tokenizer=tokenizer)


def next_token_loss(model: Model, rows: Rows, emphasis: float) -> Float[Array, ""]:
    """Mean cross-entropy, in nats, of every token but a row's first.

    Those that a text determines count `emphasis` more times, all of the text together.
    """
    same_text = (rows.text[:, :, None] == rows.text[:, None, :])[:, None]
    logits = gpt2jax.forward(
        model,
        rows.tokens,
        positions=rows.positions,
        hooks={"blocks.*.attn.hook_attn_scores": lambda scores: jnp.where(same_text, scores, -jnp.inf)},
    ).logits[:, :-1]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(rows.tokens)[:, 1:])
    weights = 1 + emphasis * jnp.asarray(rows.determined)[:, 1:]
    return jnp.sum(weights * losses) / jnp.sum(weights)


def _optimiser(recipe: Recipe, decays: list[bool]) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) on the parameters that decay, Adam on the others."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, min(recipe.warm_up, recipe.steps - 1), recipe.steps, recipe.learning_rate / 100
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=recipe.weight_decay, mask=decays),
    )


def _matrices(params: Params) -> list[bool]:
    """Which leaves are matrices of the blocks."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return [path.startswith(".blocks.W_") for path in paths]

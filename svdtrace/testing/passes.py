"""Laws of the forward pass: what it computes does not hang on how it is written down, and its parts make it whole."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import gpt2jax
from gpt2jax import edits
from gpt2jax.fold import fold
from gpt2jax.params import Model
from svdtrace.method.decomposition import FLOAT32_EPS
from svdtrace.method.ratios import ACTIVATION, Ratio, broken, head_name, nothing, products_summed, worst
from svdtrace.testing.cases import Case, run


def products_add_up(case: Case) -> Ratio:
    """`Σ_k p_k = q·k`, q and k tapped in the model's own gauge, at every pair of every head and prompt.

    Equation, bound, source and what it catches: `svdtrace.method.ratios.products_summed`.
    """
    own, gauge = (
        [np.moveaxis(each.taps[f"attn.hook_{side}"], 3, 2) for side in "qk"] for each in (case.own, case.gauge)
    )
    # Padding, which nothing reads, counts as nothing.
    kept = case.mask[None, :, None, :, None]
    S = np.broadcast_to(np.asarray(case.decomposition.S)[:, None], (*own[0].shape[:3], own[0].shape[-1]))
    q, k, q_gauge, k_gauge = (each * kept for each in (*own, *gauge))
    return replace(products_summed(q, k, q_gauge, k_gauge, S, _pair_name), law="products_add_up")


def scores_tapped(case: Case) -> Ratio:
    """`|q·k · attn_scale − score| / (|q| |k| attn_scale √h ulp) < 4`, all three tapped.

    Bound: a sum of h products, whose errors add in quadrature (Higham & Mary 2019). Source: METHOD.md, section 1.
    Catches: a scale of another layer, a mask that reaches allowed pairs.
    """
    taps = case.own.taps
    q, k = (taps[f"attn.hook_{side}"].astype(np.float64) for side in "qk")
    scale = np.asarray(case.prepared.score_scale, np.float64)[:, None, None, None, None]
    sizes = np.einsum("lbin,lbjn->lbnij", np.linalg.norm(q, axis=-1), np.linalg.norm(k, axis=-1))
    error = np.abs(np.einsum("lbinh,lbjnh->lbnij", q, k, optimize=True) * scale - taps["attn.hook_attn_scores"])
    unit = sizes * scale * case.model.config.d_head**0.5 * FLOAT32_EPS
    return worst("scores_tapped", np.where(case.pairs[None], error, 0), unit, 4.0, _pair_name)


def writers_sum(case: Case) -> Ratio:
    """`‖Σ_w y_w − r‖ / (Σ_w ‖y_w‖ √(writers · h) ulp) < 4` at every token: before, within and after the first layer,
    the middle and the last one.

    Bound: a sum of as many parts, those of heads being sums over h, whose errors add in quadrature. Source: METHOD.md,
    section 5. Catches: a component that is forgotten, counted twice, or of the wrong layer.
    """
    config, last = case.model.config, case.model.config.n_layers - 1
    layers = sorted({0, last // 2, last})
    points = {
        f"blocks.{layer}.hook_resid_{at}": (f"hook_resid_{at}", layer)
        for layer in layers
        for at in ("pre", "mid", "post")
    }
    errors, units = [], []
    for point, (site, layer) in {**points, "final": ("hook_resid_post", last)}.items():
        parts = gpt2jax.residual_contributions(case.processed, case.batch.tokens, at=point, mask=case.mask)
        values = np.asarray(parts.values, np.float64)
        errors.append(np.linalg.norm(values.sum(axis=1) - case.own.taps[site][layer], axis=-1) * case.mask)
        size = np.linalg.norm(values, axis=-1).sum(axis=1)
        units.append(size * (len(parts.labels) * config.d_head) ** 0.5 * FLOAT32_EPS)
    names = [*points, "final"]
    return worst(
        "writers_sum",
        np.stack(errors),
        np.stack(units),
        4.0,
        lambda at: f"{names[at[0]]}, prompt {at[1]}, token {at[2]}",
    )


def beyond_rank(case: Case) -> Ratio:
    """Beyond a head's rank q̂ and k̂ are exactly 0: the ratio counts the heads where they are not.

    Bound: none, their columns of Â and B̂ are 0. Source: METHOD.md, section 2. Catches: rounding noise that passes for
    singular vectors.
    """
    beyond = ~np.asarray(case.decomposition.within_rank())
    loud = np.any([np.any(case.gauge.taps[f"attn.hook_{side}"] != 0, axis=(1, 2)) for side in "qk"], axis=0)
    return broken("beyond_rank", [head_name(tuple(at)) for at in np.argwhere(np.any(beyond & loud, axis=-1)).tolist()])


def gauge_unseen(case: Case) -> Ratio:
    """Logits in the singular gauge are the model's own: `|Δ logit| / (|x_f| |W_U| ulp) < 2 · 5e-5/ulp`.

    Bound: METHOD.md's 5e-5 of each pass. Source: METHOD.md, section 2. Catches: a gauge that another part can see.
    """
    return _same_logits("gauge_unseen", case, case.own.logits, case.gauge.logits)


def folding_unseen(case: Case) -> Ratio:
    """Log-probabilities of the folded model are the raw one's: `|Δ| / (|x_f| |W_U| ulp) < 4 · 5e-5/ulp`.

    Bound: of gauge_unseen, twice, since a log-probability is a logit less a mean of logits. Source: METHOD.md,
    section 1. Catches: folding that changes the model.
    """
    if case.model.processing == "folded" or case.own.logits is None:
        return nothing("folding_unseen", 4 * ACTIVATION)
    other = fold(case.model) if case.processed.processing == "raw" else case.model
    both = [
        np.asarray(jax.nn.log_softmax(jnp.asarray(each)))
        for each in (case.own.logits, run(other, case.batch, case.mask).logits)
    ]
    return replace(_same_logits("folding_unseen", case, *both), threshold=4 * ACTIVATION)


def identity_hooks(case: Case) -> Ratio:
    """Hooks that give back what they get, and writing every head's own z in its place, change no logit.

    `|Δ logit| / (|x_f| |W_U| ulp) < 2 · 5e-5/ulp`. Bound: METHOD.md's of each pass; with hooks the pass is compiled
    otherwise. Source: METHOD.md, section 10. Catches: a site that is read before its hook and written after, an edit
    that lands in another layer.
    """
    z = jnp.asarray(case.own.taps["attn.hook_z"])
    return _same_logits("identity_hooks", case, case.own.logits, _hooked(bare(case.processed), *_inputs(case), z))


def uncompiled(case: Case) -> Ratio:
    """Without `jit`, layer after layer without `scan`, the first prompt's logits are the same.

    `|Δ logit| / (|x_f| |W_U| ulp) < 2 · 5e-5/ulp`. Bound: METHOD.md's of each pass. Catches: what a compiler may do to
    a program, and a loop that carries too little.
    """
    with jax.disable_jit():
        logits = gpt2jax.forward(case.processed, case.batch.tokens[:1], mask=case.mask[:1]).logits
    own = None if case.own.logits is None else case.own.logits[:1]
    return _same_logits("uncompiled", case, own, logits)


def mapped(case: Case) -> Ratio:
    """`vmap` over prompts gives the logits of the batch: `|Δ logit| / (|x_f| |W_U| ulp) < 2 · 5e-5/ulp`.

    Bound: METHOD.md's of each pass. Catches: an operation that mixes prompts.
    """
    logits = _mapped(bare(case.processed), *_inputs(case))
    return _same_logits("mapped", case, case.own.logits, None if logits is None else logits[:, 0])


def bare(model: Model) -> Model:
    """Without its tokenizer and layout, which compiled programs would tell apart."""
    return replace(model, tokenizer=None, layout=None)


def _inputs(case: Case) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(case.batch.tokens), jnp.asarray(case.mask)


@jax.jit
def _hooked(model: Model, tokens: jax.Array, mask: jax.Array, z: jax.Array) -> jax.Array | None:
    sites = ("hook_resid_pre", "attn.hook_pattern", "hook_mlp_out")
    hooks = {f"blocks.*.{site}": lambda value: value for site in sites}
    hooks |= {f"blocks.{layer}.attn.hook_z": edits.replace(each) for layer, each in enumerate(z)}
    return gpt2jax.forward(model, tokens, mask=mask, hooks=hooks).logits


@jax.jit
def _mapped(model: Model, tokens: jax.Array, mask: jax.Array) -> jax.Array | None:
    def alone(tokens: jax.Array, mask: jax.Array) -> jax.Array | None:
        return gpt2jax.forward(model, tokens[None], mask=mask[None]).logits

    return jax.vmap(alone)(tokens, mask)


def _same_logits(law: str, case: Case, one: np.ndarray | None, other: jax.Array | np.ndarray | None) -> Ratio:
    """Logits at the prompts' tokens; what the unembedding reads has norm √d before gain and bias."""
    if one is None or other is None:
        return nothing(law, 2 * ACTIVATION)
    params = case.model.params
    W_U = params.W_E if params.W_U is None else params.W_U.T
    size = case.model.config.d_model**0.5
    if params.ln_final is not None:
        size = size * float(jnp.max(jnp.abs(params.ln_final.w))) + float(jnp.linalg.norm(params.ln_final.b))
    norm = size * float(jnp.max(jnp.linalg.norm(W_U, axis=-1)))
    error = np.abs(np.asarray(one, np.float64) - np.asarray(other)).max(axis=-1)
    error = error * case.mask[: len(error)]
    unit = np.full(error.shape, norm * FLOAT32_EPS)
    return worst(law, error, unit, 2 * ACTIVATION, lambda at: f"prompt {at[0]}, token {at[1]}")


def _pair_name(at: tuple[int, ...]) -> str:
    layer, prompt, head, dest, src = at
    return f"prompt {prompt}: {layer}.{head}@{dest}:{src}"

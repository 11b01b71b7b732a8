"""The cheapest laws, tried at every trace and named in its manifest."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from svdtrace.errors import SvdtraceWarning
from svdtrace.method.ratios import ACTIVATION, Ratio, broken, nothing, products_summed, rebuilt
from svdtrace.tracing.batching import Batch
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.prepare import Prepared, sampled_heads


def cheapest(prepared: Prepared, batch: Batch, observed: Observed) -> list[Ratio]:
    """Shapes; no number that is none; Ω rebuilt on three heads; Σ_k p_k = q·k of head 0.0 on one prompt.

    A law that fails is told as a warning.

    Args:
        batch: the first; observed: what the pass left of it.
    """
    A, B, U, S, V = (np.asarray(each) for each in prepared.sample)
    heads = [f"{layer}.{head}" for layer, head in sampled_heads(prepared.model.config)]
    found = [
        shapes(prepared, batch, observed),
        finite(prepared),
        rebuilt(A, B, U, S, V, lambda at: heads[at[0]]),
        products_of_one_prompt(prepared, batch, observed, A[0], B[0], S[0]),
    ]
    for each in found:
        if not each.holds:
            warnings.warn(
                f"the law {each.law} fails at {each.worst_at}: ratio {each.value:.3g}, threshold {each.threshold:.3g}; "
                "run `svdtrace verify` on this model, and trust no number before it is known why",
                SvdtraceWarning,
                stacklevel=2,
            )
    return found


def shapes(prepared: Prepared, batch: Batch, observed: Observed) -> Ratio:
    """Arrays have the axes that the configuration says: the ratio counts those that have not.

    Bound: none. Source: METHOD.md, sections 1 and 2. Catches: an axis exchanged for another of the same name.
    """
    config, parts = prepared.model.config, prepared.decomposition
    by_head, (n_prompts, n_tokens) = (config.n_layers, config.n_heads), batch.tokens.shape
    expected = {
        "U": (parts.U, (*by_head, config.d_model + 1, config.d_head)),
        "S": (parts.S, (*by_head, config.d_head)),
        "V": (parts.V, (*by_head, config.d_model + 1, config.d_head)),
        "q": (observed.q, (config.n_layers, n_prompts, n_tokens, config.n_heads, config.d_head)),
        "k": (observed.k, (config.n_layers, n_prompts, n_tokens, config.n_heads, config.d_head)),
        "scale": (observed.scale, (config.n_layers, n_prompts, n_tokens)),
    }
    return broken("shapes", [name for name, (array, shape) in expected.items() if array.shape != shape])


def finite(prepared: Prepared) -> Ratio:
    """Singular values, and vectors of three heads, are finite: the ratio counts the arrays that are not.

    Bound: none. Catches: a decomposition that gave up.
    """
    _, _, U, _, V = prepared.sample
    arrays = {"S": prepared.decomposition.S, "U": U, "V": V}
    return broken("finite", [name for name, array in arrays.items() if not np.all(np.isfinite(np.asarray(array)))])


def products_of_one_prompt(
    prepared: Prepared, batch: Batch, observed: Observed, A: np.ndarray, B: np.ndarray, S: np.ndarray
) -> Ratio:
    """`svdtrace.method.ratios.products_summed` of head 0.0 on the first prompt; q, k in float64 from its tokens.

    Args:
        A, B, S: of head 0.0.
    """
    params, config = prepared.model.params, prepared.model.config
    if not bool(np.asarray(observed.finite)[0]):
        return nothing("products_summed", 2 * ACTIVATION)
    n_tokens = int(batch.length[0])
    stem = [_rows(prepared, params.W_E, batch.tokens[0, :n_tokens]), _rows(prepared, params.W_pos, np.arange(n_tokens))]
    x = np.sum(stem, axis=0)
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + config.layer_norm_epsilon)
    if params.blocks.ln1 is not None:
        gain, shift = (np.asarray(each, np.float64)[0] for each in (params.blocks.ln1.w, params.blocks.ln1.b))
        x = gain * x + shift
    read = np.concatenate([x, np.ones((n_tokens, 1))], axis=-1)
    q_gauge, k_gauge = (np.asarray(each)[0, :n_tokens] for each in (observed.first_q, observed.first_k))
    found = products_summed(read @ A, read @ B, q_gauge, k_gauge, S)
    return replace(found, worst_at="prompt 0: 0.0") if found.value else found


def _rows(prepared: Prepared, table: Any, which: np.ndarray) -> np.ndarray:
    """Rows of an embedding in float64; on an accelerator only they come to the host."""
    rows = np.asarray(table)[which] if prepared.platform == "cpu" else np.asarray(table[which])
    return rows.astype(np.float64)

"""What changes nothing: laws that trace a case twice, the second time otherwise, and hold both against each other.

Each takes a case, and its ratio is that of `svdtrace.testing.comparing.compared`: errors of scores, patterns, products
and contributions over METHOD.md's bounds (sections 3 and 4) in ulps, infinite where a decision differs without a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gpt2jax.params import Model
from svdtrace.method.decomposition import Decomposition
from svdtrace.method.ratios import ACTIVATION, Ratio, broken, nothing
from svdtrace.prompts.prompt import Prompt
from svdtrace.testing.cases import Case
from svdtrace.testing.comparing import EDGE, FIRING, Row, by_key, compared, firing_name
from svdtrace.tracing.devices import precision
from svdtrace.tracing.prepare import in_gauge

CONDITION = 2.0
"""Of the matrices that change a head's gauge."""


def gauge_changed(case: Case) -> Ratio:
    """`A → A M, B → B M⁻ᵀ` leaves Ω, and with it every firing, slice and edge: `ratio < 2 · 5e-5/ulp · cond M`.

    Bound: M and M⁻ᵀ magnify the rounding of A and B by at most their condition, 2 here. Source: METHOD.md, section 2.
    Catches: anything traced that hangs on W_Q or W_K and not on their product.
    """

    def changed(model: Model) -> Model:
        blocks, rng = model.params.blocks, case.rng()
        shape = (*blocks.W_Q.shape[:2], model.config.d_head, model.config.d_head)
        (left, _), (right, _) = np.linalg.qr(rng.normal(size=shape)), np.linalg.qr(rng.normal(size=shape))
        stretch = np.linspace(1, CONDITION, shape[-1])
        M, inverse = ((left * each) @ right for each in (stretch, 1 / stretch))
        W_Q, b_Q = _times(blocks.W_Q, M), _times(blocks.b_Q[:, :, None], M)[:, :, 0]
        W_K, b_K = _times(blocks.W_K, inverse), _times(blocks.b_K[:, :, None], inverse)[:, :, 0]
        return _with_blocks(model, W_Q=W_Q, b_Q=b_Q, W_K=W_K, b_K=b_K)

    return compared("gauge_changed", case, _of(case, changed), gain=CONDITION)


def residual_turned(case: Case) -> Ratio:
    """Folded: an orthogonal change of the residual's basis that keeps the ones vector turns U and V along and changes
    no firing, product or edge: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's of each of the two traces. Source: METHOD.md, section 1: means and variances are kept. Catches: a
    coordinate of the residual that is preferred, and a LayerNorm that is not invariant.
    """
    if case.config.processing != "folded":
        return nothing("residual_turned", 2 * ACTIVATION)

    def changed(model: Model) -> Model:
        blocks, params, d = model.params.blocks, model.params, model.config.d_model
        vectors = case.rng().normal(size=(d, d))
        vectors[:, 0] = 1
        basis, _ = np.linalg.qr(vectors)
        # The first vector stays, the others are turned among themselves.
        among, _ = np.linalg.qr(case.rng().normal(size=(d - 1, d - 1)))
        turned = np.concatenate([basis[:, :1], basis[:, 1:] @ among], axis=1)
        Q = turned @ basis.T
        reads = {name: _times(Q.T, getattr(blocks, name)) for name in ("W_Q", "W_K", "W_V", "W_in")}
        writes = {name: _times(getattr(blocks, name), Q) for name in ("W_O", "b_O", "W_out", "b_out")}
        stem = {name: _times(getattr(params, name), Q) for name in ("W_E", "W_pos")}
        stem |= {} if params.W_U is None else {"W_U": _times(Q.T, params.W_U)}
        return replace(model, params=replace(params, blocks=replace(blocks, **reads, **writes), **stem))

    return compared("residual_turned", case, _of(case, changed))


def signs_turned(case: Case) -> Ratio:
    """Turning the signs of pairs (u_k, v_k) changes nothing at all: the ratio counts rows that differ.

    Bound: none, signs do not round. Source: METHOD.md, section 2. Catches: contributions that hang on a pair's sign.
    """
    sign = case.rng().choice([-1.0, 1.0], case.decomposition.S.shape)
    with precision(case.config):
        parts = case.decomposition
        turn = jnp.asarray(sign, parts.S.dtype)[..., None, :]
        prepared = in_gauge(case.processed, Decomposition(U=parts.U * turn, S=parts.S, V=parts.V * turn))
    return identical("signs_turned", case, case.put(prepared=prepared))


def heads_permuted(case: Case) -> Ratio:
    """Permuting the heads of every layer permutes what is traced: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's, since sums over heads are rounded in another order. Source: METHOD.md, section 5. Catches: rows
    given to another head, writers numbered otherwise than readers.
    """
    config, rng = case.model.config, case.rng()
    places = np.stack([rng.permutation(config.n_heads) for _ in range(config.n_layers)])
    rows = np.arange(config.n_layers)[:, None]

    def changed(model: Model) -> Model:
        names = ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O")
        return _with_blocks(model, **{name: getattr(model.params.blocks, name)[rows, places] for name in names})

    def renamed(row: Row) -> Row:
        row = {**row, "head": int(places[row["layer"], row["head"]])}
        if row.get("writer_head") is not None:
            layer = row["writer_layer"]
            head = int(places[layer, row["writer_head"]])
            row |= {"writer_head": head, "writer": f"{layer}.{head}"}
        return row

    return compared("heads_permuted", case, _of(case, changed), renamed=renamed)


def prompts_reordered(case: Case) -> Ratio:
    """Prompts in another order give the same rows, numbered so: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's. Source: METHOD.md, section 3. Catches: rows that are given to another prompt of the batch.
    """
    order = case.rng().permutation(len(case.prompts)).tolist()
    other = replace(case, prompts=tuple(case.prompts[place] for place in order)).put(**_ready(case))
    return compared("prompts_reordered", case, other, renamed=lambda row: {**row, "prompt": order[row["prompt"]]})


def batches_cut(case: Case) -> Ratio:
    """A batch for every prompt gives the same as one for all: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's. Source: METHOD.md, section 3. Catches: prompts of a batch that see one another, and rows that
    only fill a batch and fire.
    """
    other = replace(case, config=replace(case.config, batch_size=1)).put(**_ready(case), undecided=case.undecided)
    return compared("batches_cut", case, other)


def padding_left_out(case: Case) -> Ratio:
    """The shortest prompt alone, without padding, gives the same: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's. Source: METHOD.md, section 3. Catches: padding that is attended to, fires, or shifts positions.
    """
    place = int(np.argmin([len(prompt.tokens) for prompt in case.prompts]))
    other = replace(case, prompts=(case.prompts[place],)).put(**_ready(case))
    return compared("padding_left_out", case, other, only=place, renamed=lambda row: {**row, "prompt": place})


def later_tokens(case: Case) -> Ratio:
    """What stands behind a prompt's last traced token changes nothing: `ratio < 2 · 5e-5/ulp`.

    Bound: METHOD.md's. Source: METHOD.md, section 3. Catches: a look ahead.
    """
    rng, n_tokens = case.rng(), case.model.config.d_vocab
    ended = tuple(replace(each, roles={**each.roles, "end": len(each.tokens) // 2}) for each in case.prompts)

    def otherwise(prompt: Prompt) -> Prompt:
        later = rng.integers(0, n_tokens, len(prompt.tokens) - prompt.last - 1).tolist()
        return replace(prompt, tokens=(*prompt.tokens[: prompt.last + 1], *later))

    one, other = (
        replace(case, prompts=prompts).put(**_ready(case)) for prompts in (ended, tuple(map(otherwise, ended)))
    )
    return compared("later_tokens", one, other)


def raw_and_folded(case: Case) -> Ratio:
    """Raw and folded weights fire at the same pairs, with the same patterns and scores: `ratio < 2 · 5e-5/ulp`.

    Their slices are of two different Ω. Bound: METHOD.md's of scores and patterns. Source: METHOD.md, section 1.
    Catches: a γ, β or bias lost in folding, a trace that decides by what folding changes.
    """
    other = "folded" if case.config.processing == "raw" else "raw"
    if case.model.processing == "folded":
        return nothing("raw_and_folded", 2 * ACTIVATION)
    return compared("raw_and_folded", case, replace(case, config=replace(case.config, processing=other)), slices=False)


def identical(law: str, one: Case, other: Case) -> Ratio:
    """The ratio that counts rows of firings and edges that differ in anything."""
    places = []
    for name, keys in (("firings", FIRING), ("edges", EDGE)):
        mine, theirs = (by_key(getattr(each.trace, name), keys) for each in (one, other))
        places += [firing_name(at) for at in sorted(mine.keys() | theirs.keys()) if mine.get(at) != theirs.get(at)]
    return broken(law, places)


def _times(one: Any, other: Any) -> Array:
    """A product made in float64 on the host, so that it rounds once; in the dtype of the weights."""
    dtype = next(each.dtype for each in (one, other) if isinstance(each, jax.Array))
    return jnp.asarray(np.asarray(one, np.float64) @ np.asarray(other, np.float64), dtype)


def _with_blocks(model: Model, **changed: Array) -> Model:
    return replace(model, params=replace(model.params, blocks=replace(model.params.blocks, **changed)))


def _of(case: Case, changed: Callable[[Model], Model]) -> Case:
    """The case with its processed model changed."""
    with precision(case.config):
        return replace(case, model=changed(case.processed))


def _ready(case: Case) -> dict[str, object]:
    """What other prompts of the same model need not make anew."""
    return {name: getattr(case, name) for name in ("processed", "decomposition", "prepared")}

"""Laws of relative attention, in units of attention probability (METHOD.md, section 14.9).

Where float32 enters, errors are held against what METHOD.md's 5e-5 of an activation makes of a score, or against
the rounding of the sums themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import jax
import numpy as np
from jaxtyping import Float

from svdtrace.method.decomposition import FLOAT32_EPS
from svdtrace.method.ratios import ACTIVATION, Ratio, nothing, worst
from svdtrace.method.relative import path_weights
from svdtrace.method.taking import after_rows
from svdtrace.testing.cases import Case
from svdtrace.testing.comparing import SIDES, firing_name
from svdtrace.testing.relative_cases import Explained, pattern_of
from svdtrace.tracing.attended import attending, edges_by_layer, parts_read
from svdtrace.tracing.devices import precision
from svdtrace.tracing.rows import WriterOrder

SUMMED = 4.0
"""Of sums: their rounding errors add in quadrature."""
PANELS = 5
NODES = 16
EDGES_TRIED = 64

Found = Iterator[tuple[float, float, str]]
"""Errors, what rounding makes of them, and where."""


def attention_explained(case: Case) -> Ratio:
    """`|Σ_w c_w − Σ_{k∈S} P_k| / ((a (|q̂| + √σ_0) Σ_t |M_t| (|k̂_t| + √σ_0) + Σ_w |c_w|) ulp) < 2 · 5e-5/ulp`, both
    sides.

    Bound: METHOD.md's of a score, weighed by the path. Source: METHOD.md, sections 14.2 and 14.9. Catches: a writer or
    a key that is forgotten, a scale of another token, a constant that counts on the source side.
    """

    def found(each: Explained) -> Found:
        wanted = float(each.products[each.members].sum())
        keys = np.abs(each.weights) @ (np.linalg.norm(each.k, axis=-1) + each.root)
        size = each.scale * float((np.linalg.norm(each.q) + each.root) * keys)
        for side, values in zip(SIDES, each.values, strict=True):
            yield abs(float(values.sum()) - wanted), size + float(np.abs(values).sum()), side

    return _of_firings("attention_explained", case, 2 * ACTIVATION, found)


def path_completed(case: Case) -> Ratio:
    """Over every k the products make p_j less an even share: `|Σ_k P_k − (p_j − 1/(i+1))| / ((1 + a |q̂| max_t |k̂_t|)
    √h ulp) < 4`.

    Bound: a score is a sum of h terms. Source: METHOD.md, sections 14.2 and 14.9. Catches: a rule that misses a panel,
    weights that are not of the row's own scores.
    """

    def found(each: Explained) -> Found:
        error = abs(float(each.products.sum()) - (each.pattern - 1 / len(each.k)))
        size = each.scale * np.linalg.norm(each.q) * np.linalg.norm(each.k, axis=-1).max()
        yield error, (1 + float(size)) * len(each.q) ** 0.5, "every k"

    return _of_firings("path_completed", case, SUMMED, found)


def path_integrated(case: Case) -> Ratio:
    """The rule's error is below its bound: `|Σ_t (M_t − M*_t) r_t| / (E + (1 + R_S) R_r ulp) < 4`, M* by a far finer
    rule, r the scores themselves and drawn rows, R their ranges.

    `E = Σ_panels 6.4 R_r w ϱ^{−2(n−1)}/(1 − ϱ^{−2})`, `ϱ = y + √(1 + y²)`, `y = 4π/(3 R_S w)`, w the panel's width.
    Bound: the integrand has no pole in |Im α| < π/R_S. Source: METHOD.md, sections 14.1 and 14.9. Catches: nodes or
    panels of the wrong width.
    """
    rng = case.rng()

    def found(each: Explained) -> Found:
        scores = each.scores.astype(np.float32)
        off = _rule(scores, each.src) - finer_weights(scores.astype(np.float64), each.src)
        reach = float(np.ptp(scores))
        for row in (scores, rng.normal(size=len(scores))):
            width = float(np.ptp(row))
            bound = rule_bound(reach) * width / FLOAT32_EPS
            yield abs(float(off @ (row - row[each.src]))), bound + (1 + reach) * width, "a row"

    return _of_firings("path_integrated", case, SUMMED, found)


def constants_unseen(case: Case) -> Ratio:
    """What all keys have in common changes nothing: `Σ_t |M_t(S + c) − M_t(S)| / ((1 + max|S| + |c|) ulp) < 4` and
    `|Σ_t M_t| / (√T M_j ulp) < 4`.

    Bound: the rounding of S + c. Source: METHOD.md, sections 14.1 and 14.9. Catches: weights of the scores themselves,
    a key outside the row.
    """
    rng = case.rng()

    def found(each: Explained) -> Found:
        scores = each.scores
        shift = float(rng.uniform(1, 4) * (1 + np.ptp(scores)))
        moved = np.abs(_rule(scores + shift, each.src) - _rule(scores, each.src)).sum()
        yield float(moved), 1 + float(np.abs(scores).max()) + shift, "scores"
        M = each.weights
        yield abs(float(M.sum())), len(M) ** 0.5 * float(M[each.src]), "a row"

    return _of_firings("constants_unseen", case, SUMMED, found)


def attention_bounded(case: Case) -> Ratio:
    """`|c_w| ≤ M_j · range of the writer's row` and `M_j ≤ 1/4`: what exceeds it, over the row's rounding, `< 2 ·
    5e-5/ulp`.

    Bound: METHOD.md's 5e-5 of what a writer can put into a score. Source: METHOD.md, section 14.9. Catches: weights of
    the wrong sign, contributions in units of the score.
    """

    def found(each: Explained) -> Found:
        own = float(each.weights[each.src])
        yield max(own - 0.25, 0.0), 1.0, "M_j"
        for side, name in enumerate(SIDES):
            beyond = np.abs(each.values[side]) - own * np.ptp(each.rows(side, each.members), axis=-1)
            unit = own * (each.reach(side) + np.ptp(each.rows(side, each.members), axis=-1))
            yield from ((max(over, 0.0), size, name) for over, size in zip(beyond.tolist(), unit.tolist(), strict=True))

    return _of_firings("attention_bounded", case, 2 * ACTIVATION, found)


def drops_add_up(case: Case) -> Ratio:
    """Under `until` the drops sum to p_j − p_end, p_end what the scores without the rows taken give:
    `|Σ drop − (p_j − p_end)| / ((1 + a |q̂| max_t |k̂_t| + Σ_taken a √σ_0 |x_w| …) ulp) < 2 · 5e-5/ulp`.

    Bound: METHOD.md's of a score, with what was taken from it. Source: METHOD.md, sections 14.4 and 14.9. Catches: a
    drop at another's turn, rows of the wrong slice, keys beyond the row.
    """

    def found(each: Explained) -> Found:
        for side, name in enumerate(SIDES):
            taken = each.chosen[side]
            end = pattern_of(each.scores - each.rows(side, each.members)[taken].sum(axis=0), each.src)
            error = abs(float(each.drops[side][taken].sum()) - (each.pattern - end))
            yield error, _score_size(each) + float(each.reach(side)[taken].sum()), name

    return _of_firings("drops_add_up", case, 2 * ACTIVATION, found)


def until_edits(case: Case) -> Ratio:
    """`until` over every k is an edit: p_end is what the head has, in the model's own gauge, when its query (or every
    key) is read without the writers taken; the unit is that of `drops_add_up`, `< 2 · 5e-5/ulp`.

    Bound: METHOD.md's of a score. Source: METHOD.md, section 14.9. Catches: a gauge that loses a bias, a writer read
    with another token's scale.
    """

    def found(each: Explained) -> Found:
        every = np.ones(len(each.q), bool)
        for side, name in enumerate(SIDES):
            rows = each.rows(side, every)
            order = np.argsort(-(rows @ each.weights), kind="stable")
            after = _after(each, rows, order)
            below = np.flatnonzero(after < each.threshold)
            taken = order[: int(below[0]) + 1 if len(below) else len(order)]
            edited = _edited(case, each, side, taken)
            unit = _score_size(each) + float(each.reach(side)[taken].sum())
            yield abs(edited - float(after[len(taken) - 1])), unit, name

    return _of_firings("until_edits", case, 2 * ACTIVATION, found)


def attention_gauge_unseen(case: Case) -> Ratio:
    """Over every k, c_w is the same in any gauge with the same Ω: in the singular one and in the model's own,
    `|Δ c_w| / (a √σ_0 |x_w| … ulp) < 2 · 5e-5/ulp`.

    Bound: METHOD.md's of a score. Source: METHOD.md, section 14.9. Catches: what hangs on the basis though no slice is
    chosen.
    """

    def found(each: Explained) -> Found:
        every = np.ones(len(each.q), bool)
        for side, name in enumerate(SIDES):
            own = _own_rows(case, each, side)
            error = np.abs((own - each.rows(side, every)) @ each.weights)
            unit = 2 * each.weights[each.src] * (each.reach(side) + np.abs(own).max(axis=-1))
            yield from ((off, size, name) for off, size in zip(error.tolist(), unit.tolist(), strict=True))

    return _of_firings("attention_gauge_unseen", case, 2 * ACTIVATION, found)


def attended_parts_add_up(case: Case) -> Ratio:
    """What a head's edge is worth splits over what the head attended to: `Σ_b A[t,b] κ·v_b` is c_w (destination), and
    `M_t (Σ_b A[t,b] ρ_b[t] − ρ̄_w)` is c_{w,t} (source): the error over `(Σ_b |parts| + |c|) ulp`, `< 2 · 5e-5/ulp`.

    Bound: METHOD.md's 5e-5 of what is summed. Source: METHOD.md, sections 14.5 and 14.9. Catches: a pattern of another
    token, values without their scale.
    """
    made = case.relative
    edges, order = made.rows.edges, WriterOrder.of(case.model.config.n_layers, case.model.config.n_heads)
    prepared, explained = case.prepared, {each.at: each for each in made.firings}
    errors, units, names = [], [], []
    for layer, mine, padded in edges_by_layer(made.rows, order, EDGES_TRIED):
        given = attending(made.rows, order, padded)
        with precision(case.config):
            pattern, read = parts_of(made.observed, given, np.int32(layer), prepared.cores(layer), prepared.score_scale)
        parts = np.asarray(pattern, np.float64) * np.asarray(read, np.float64)
        for place, edge in enumerate(mine.tolist()):
            at = _place(made.rows.firings, int(edges.firing[edge]))
            if at not in explained:
                continue
            each, side = explained[at], int(edges.side[edge])
            writer = order.codes_below(layer).tolist().index(int(edges.writer[edge]))
            row, M = each.rows(side, each.members)[writer], float(each.weights[each.src])
            whole, size = parts[place].sum(), np.abs(parts[place]).sum()
            if side == 1:
                whole, size = M * (whole - row.mean()), M * (size + np.abs(row).mean())
            errors.append(abs(float(whole) - float(given.there[place])))
            units.append((float(size) + abs(float(given.there[place]))) * FLOAT32_EPS)
            names.append(f"{firing_name(at)}, edge {order.labels[edges.writer[edge]]}/{SIDES[side]}")
    return worst(
        "attended_parts_add_up", np.asarray(errors), np.asarray(units), 2 * ACTIVATION, lambda at: names[at[0]]
    )


def rule_bound(reach: float) -> float:
    """By how much section 14.1's rule is off at most, for rows of scores of a range, in units of the row's range."""
    edges = [0.0, *(2.0**-each for each in range(PANELS - 1, -1, -1))]
    total = 0.0
    for low, high in pairwise(edges):
        y = 4 * np.pi / (3 * max(reach, 1e-6) * (high - low))
        rho = y + np.sqrt(1 + y * y)
        total += 6.4 * (high - low) * rho ** (-2.0 * (NODES - 1)) / (1 - rho**-2.0)
    return float(total)


def finer_weights(scores: Float[np.ndarray, " tok"], src: int) -> Float[np.ndarray, " tok"]:
    """M by Gauss and Legendre's rule of 16 nodes in 64 panels that shrink towards 0."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    edges = np.concatenate([[0.0], np.geomspace(2.0**-10, 1.0, 64)])
    width = np.diff(edges)[:, None] / 2
    alpha, weight = (edges[:-1, None] + width * (nodes + 1)).ravel(), (width * weights).ravel()
    power = np.exp(alpha[:, None] * (scores - scores.max()))
    p = power / power.sum(axis=-1, keepdims=True)
    return (weight * p[:, src]) @ ((np.arange(len(scores)) == src) - p)


def _rule(scores: Float[np.ndarray, " tok"], src: int) -> Float[np.ndarray, " tok"]:
    """M as the trace has it; rows are padded to a few lengths, since each is compiled."""
    room = _room(len(scores))
    padded = np.pad(np.asarray(scores, np.float32), (0, room - len(scores)))
    found = weights_of(padded[None], np.asarray([src], np.int32), (np.arange(room) < len(scores))[None])
    return np.asarray(found, np.float64)[0, : len(scores)]


weights_of = jax.jit(path_weights)
parts_of = jax.jit(parts_read)
patterns_after = jax.jit(after_rows)


def _after(each: Explained, rows: np.ndarray, order: np.ndarray) -> Float[np.ndarray, " writer"]:
    """p_j after each row in an order has left the scores, padded as `_rule`'s."""
    n_keys, room = len(each.k), _room(len(each.k))
    scores, rows = (np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, room - n_keys)]) for x in (each.scores, rows))
    given = (scores[None].astype(np.float32), rows[None].astype(np.float32), order[None].astype(np.int32))
    found = patterns_after(*given, np.asarray([each.src], np.int32), (np.arange(room) < n_keys)[None])
    return np.asarray(found, np.float64)[0]


def _room(n_keys: int) -> int:
    return 1 << (n_keys - 1).bit_length()


def _own_rows(case: Case, each: Explained, side: int) -> Float[np.ndarray, "writer tok"]:
    """Writers' rows over every k, by the model's own queries and keys."""
    changes, q, k = _own(case, each, side)
    return each.scale * (changes @ k.T if side == 0 else changes @ q)


def _edited(case: Case, each: Explained, side: int, taken: np.ndarray) -> float:
    """p_j of the model's own head, its query or its keys without what some writers wrote."""
    changes, q, k = _own(case, each, side)
    gone = changes[taken].sum(axis=0)
    return pattern_of(each.scale * (k @ (q - gone) if side == 0 else (k - gone) @ q), each.src)


def _own(case: Case, each: Explained, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each writer puts into the own query [writer h], or into each own key [writer tok h]; the query and keys."""
    (prompt, layer, head, dest, _), blocks = each.at, case.processed.params.blocks
    W, b = (np.asarray(getattr(blocks, f"{name}_{'QK'[side]}")[layer, head], np.float64) for name in "Wb")
    gamma, beta = np.ones(len(W)), np.zeros(len(W))
    if blocks.ln1 is not None:
        gamma, beta = (np.asarray(value[layer], np.float64) for value in (blocks.ln1.w, blocks.ln1.b))
    read = (gamma * each.written) @ W
    read[-1] = beta @ W + b
    q, k = (np.asarray(case.own.taps[f"attn.hook_{name}"], np.float64) for name in "qk")
    return (read[:, -1] if side == 0 else read), q[layer, prompt, dest, head], k[layer, prompt, : dest + 1, head]


def _score_size(each: Explained) -> float:
    """1, which a pattern is at most, and a (|q̂| + √σ_0)(max_t |k̂_t| + √σ_0)."""
    keys = float(np.linalg.norm(each.k, axis=-1).max())
    return 1 + each.scale * (float(np.linalg.norm(each.q)) + each.root) * (keys + each.root)


def _place(firings: object, row: int) -> tuple[int, ...]:
    return tuple(int(getattr(firings, name)[row]) for name in ("prompt", "layer", "head", "dest", "src"))


def _of_firings(law: str, case: Case, threshold: float, found: Callable[[Explained], Found]) -> Ratio:
    """The ratio of a law that gives an error and a size, in ulps, of each firing and side."""
    firings = case.relative.firings
    if not firings:
        return nothing(law, threshold)
    rows = [(error, size, f"{firing_name(each.at)}, {name}") for each in firings for error, size, name in found(each)]
    errors, sizes, names = zip(*rows, strict=True)
    return worst(law, np.asarray(errors), np.asarray(sizes) * FLOAT32_EPS, threshold, lambda at: names[at[0]])

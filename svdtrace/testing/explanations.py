"""Laws of slices, contributions, edges and the graphs made of them (METHOD.md, sections 4 to 8 and 10)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from jaxtyping import Bool, Float

from svdtrace.interventions.signals import Sending, signals
from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition
from svdtrace.method.edges import covering
from svdtrace.method.ratios import ACTIVATION, Ratio, broken, nothing, worst
from svdtrace.method.slices import choose_slices
from svdtrace.prompts.edge_names import writer_layer
from svdtrace.testing.cases import Case
from svdtrace.testing.comparing import FIRING, SIDES, firing_name
from svdtrace.tracing.attribute import Blocks, collect, in_blocks, readers_of, writer_terms
from svdtrace.tracing.devices import precision
from svdtrace.tracing.prepare import in_gauge, writer_layers
from svdtrace.tracing.roots import LOGIT
from svdtrace.tracing.trace import trace_prepared

SHARES = (0.25, 0.5, 0.7, 0.9, 1.0)
"""Of τ and coverage, rising."""
EDGES_TRIED = 64


def slices_grow(products: Float[np.ndarray, "firing sv"]) -> Ratio:
    """`S(τ) ⊆ S(τ′)` for τ ≤ τ′, S exceeds τ of the total and would not without its smallest product, and at τ = 1 S
    holds products of the total's sign alone: the ratio counts the firings where it is not so.

    Bound: none; running sums are the same numbers at every τ. What lies within `4 √h ulp Σ |p_k|` of its goal may be on
    either side of it. Source: METHOD.md, section 4. Catches: a cut that is not a prefix of one order, an overshoot that
    is missed, a share of another total.
    """
    if not len(products):
        return broken("slices_grow", [])
    nowhere = np.zeros_like(products)
    found = [np.asarray(_slices(products, nowhere, np.asarray(tau, products.dtype)).members) for tau in SHARES]
    sign = np.sign(np.asarray(_slices(products, nowhere, np.asarray(1, products.dtype)).total))[:, None]
    missed = np.any([_misses(products * sign, each, share) for share, each in zip(SHARES, found, strict=True)], axis=0)
    shrinks = np.any([np.any(less & ~more, axis=-1) for less, more in pairwise(found)], axis=0)
    against = np.any(found[-1] & (products * sign <= 0), axis=-1) | (found[-1].any(axis=-1) != (sign[:, 0] != 0))
    return broken("slices_grow", [f"firing {row}" for row in np.flatnonzero(shrinks | missed | against)])


def edges_grow(weights: Float[np.ndarray, "firing writer"]) -> Ratio:
    """Where the contributions' total is positive, edges at one coverage are edges at every larger one, there is one at
    least, they exceed that share of the total and would not without the smallest of them, and no writer is left out
    that is as large as one taken: the ratio counts the firings where it is not so.

    Bound: none, as of `slices_grow`. Source: METHOD.md, section 6. Catches: a cut that passes over a writer, a share of
    another total.

    Args:
        weights: -inf stands for no writer.
    """
    if not len(weights):
        return broken("edges_grow", [])
    found = [np.asarray(_covering(weights, np.asarray(share, weights.dtype))) for share in SHARES]
    shrinks = np.any([np.any(less & ~more, axis=-1) for less, more in pairwise(found)], axis=0)
    smallest = np.min(np.where(found[0], weights, np.inf), axis=-1, keepdims=True)
    passed = np.any((weights >= smallest) != found[0], axis=-1)
    positive = np.where(np.isfinite(weights), weights, 0).sum(axis=-1) > 0
    missed = np.any([_misses(weights, each, share) for share, each in zip(SHARES, found, strict=True)], axis=0)
    wrong = positive & (shrinks | passed | missed | ~found[0].any(axis=-1))
    return broken("edges_grow", [f"firing {row}" for row in np.flatnonzero(wrong)])


def everything_explained(case: Case) -> Ratio:
    """`exact`: `|Σ_w c_w − Σ_{k∈S} p_k| / (((|q̂| + √σ_0)(|k̂| + √σ_0) + Σ_w |c_w|) ulp) < 2 · 5e-5/ulp`, both sides.

    Bound: METHOD.md's of a product, and that of terms which cancel one another. Source: METHOD.md, section 5. Catches:
    a writer that is forgotten, a scale or bias misplaced.
    """
    made = case.attribution
    if not len(made.firings) or case.config.method != "exact" or case.config.writers != "all":
        return nothing("everything_explained", 2 * ACTIVATION)
    wanted = np.sum(made.products, axis=-1, where=made.members, dtype=np.float64)
    # METHOD.md's bound of a score is (|q̂| + √σ_0)(|k̂| + √σ_0) 5e-5 attn_scale.
    unit = made.score_bound / made.attn_scale / ACTIVATION + made.size * FLOAT32_EPS
    at = case.attribution.firings
    return worst(
        "everything_explained",
        np.abs(made.explained - wanted),
        unit,
        2 * ACTIVATION,
        lambda place: f"{_firing(at, place[1])}, {SIDES[place[0]]}",
    )


def edits_lower(case: Case) -> Ratio:
    """An `exact` local edit of one side alone lowers Σ_{k∈S} p_k by c_w: `|fall − c_w| / (bound / (5e-5/ulp))`
    `< 2 · 5e-5/ulp`, on the first edges from heads.

    Bound: METHOD.md's of c_w (section 4). Source: METHOD.md, section 10. Catches: a projector onto other vectors, the
    appended 1 counted as signal, a scale of another token.
    """
    made, parts = case.attribution, case.decomposition
    if case.config.processing != "folded" or case.config.method != "exact" or not len(made.firings):
        return nothing("edits_lower", 2 * ACTIVATION)
    rows = {at: row for row, at in enumerate(zip(*(getattr(made.firings, n).tolist() for n in FIRING), strict=True))}
    W_O, z = (np.asarray(each, np.float64) for each in (case.processed.params.blocks.W_O, case.observed.z))
    root = np.sqrt(np.asarray(parts.S, np.float64))
    errors, units, names = [], [], []
    for edge in [each for each in case.trace.edges.to_pylist() if each["writer_head"] is not None][:EDGES_TRIED]:
        layer, head, place = edge["layer"], edge["head"], edge["prompt"]
        row = rows[tuple(edge[name] for name in FIRING)]
        writer, side = (edge["writer_layer"], edge["writer_head"]), SIDES.index(edge["side"])
        y = z[(writer[0], place, edge["token"], writer[1])] @ W_O[writer]
        vectors = np.asarray((parts.U, parts.V)[side][layer, head], np.float64)
        delta = _signal(vectors, made.members[row], y) / float(case.observed.scale[layer, place, edge["token"]])
        other = np.asarray(
            (case.observed.k, case.observed.q)[side][(layer, place, edge["src"] if side == 0 else edge["dest"], head)],
            np.float64,
        )
        fall = np.sum((delta @ vectors[:-1] * root[layer, head] * other)[made.members[row]])
        errors.append(abs(float(fall) - edge["weight"]))
        units.append(float(made.bound[side, row]) / ACTIVATION)
        names.append(f"{_firing(made.firings, row)}, edge {edge['writer']}/{edge['side']}")
    return worst("edits_lower", np.asarray(errors), np.asarray(units), 2 * ACTIVATION, lambda at: names[at[0]])


def signals_project(case: Case) -> Ratio:
    """The signal `y P` is an orthogonal projection: P P = P, P = Pᵀ, and what is left reads nothing along S.

    `‖y P P − y P‖ / (‖y‖ √(d+1) ulp) < 4`, likewise `|⟨y P, x⟩ − ⟨y, x P⟩|` and `‖(y − y P) U_S‖`, U and V. Bound: sums
    of d+1 terms (Higham & Mary 2019); the vectors are float32's. Source: METHOD.md, sections 5 and 10 (`exact`).
    Catches: a projector that is oblique, or made of vectors that are not orthonormal without their last row.
    """
    if case.processed.processing != "folded":
        return nothing("signals_project", 4.0)
    rng, parts, d = case.rng(), case.decomposition, case.model.config.d_model
    errors, units, names = [], [], []
    for layer in range(case.model.config.n_layers):
        head = int(rng.integers(case.model.config.n_heads))
        within = np.asarray(parts.within_rank())[layer, head]
        members = within & (rng.random(len(within)) < 0.5)
        x, y = (each - each.mean() for each in rng.normal(size=(2, d)))
        for side, vectors in (("U", parts.U), ("V", parts.V)):
            own = np.asarray(vectors[layer, head], np.float64)
            once, of_x = _signal(own, members, y), _signal(own, members, x)
            left = [
                np.linalg.norm(_signal(own, members, once) - once),
                abs(once @ x - y @ of_x) / np.linalg.norm(x),
                np.linalg.norm((y - once) @ own[:-1][:, members]),
            ]
            errors += left
            units += [np.linalg.norm(y) * (d + 1) ** 0.5 * FLOAT32_EPS] * 3
            names += [f"{side} of {layer}.{head}: {what}" for what in ("P P = P", "P = Pᵀ", "what is left")]
    return worst("signals_project", np.asarray(errors), np.asarray(units), 4.0, lambda at: names[at[0]])


def equal_values_turned(case: Case) -> Ratio:
    """Turning u_k and v_k within equal σ changes neither Σ p_k over such a group nor any writer's part in it.

    The law sets σ_0 = σ_1, σ_2 = σ_3, … and turns each pair: `|Δ Σ_{k∈G} c_wk| / (‖α‖ ‖β‖ ulp) < 2 · 5e-5/ulp`, α and
    β of section 4. Bound: METHOD.md's 5e-5 of each factor. Source: METHOD.md, sections 4 and 13. Catches: what prefers
    one basis of a group to another although it holds the group whole.
    """
    parts, rng = case.decomposition, case.rng()
    n_pairs = parts.S.shape[-1] // 2
    if case.model.config.n_layers < 2 or not n_pairs or not len(case.attribution.firings):
        return nothing("equal_values_turned", 2 * ACTIVATION)
    S = np.array(parts.S)
    S[..., : 2 * n_pairs] = np.repeat(S[..., : 2 * n_pairs].reshape(*S.shape[:-1], n_pairs, 2).mean(-1), 2, axis=-1)
    angle = rng.uniform(0, 2 * np.pi, (*S.shape[:-1], n_pairs))
    turned = [_pairs_turned(np.asarray(each, np.float64), angle) for each in (parts.U, parts.V)]
    with precision(case.config):
        dtype = parts.S.dtype
        equal = [
            Decomposition(U=jnp.asarray(U, dtype), S=jnp.asarray(S, dtype), V=jnp.asarray(V, dtype))
            for U, V in ((parts.U, parts.V), turned)
        ]
        both = [case.put(decomposition=each, prepared=in_gauge(case.processed, each)) for each in equal]
        one, other = (_by_pair(each, case) for each in both)
    return worst(
        "equal_values_turned",
        np.abs(one[0] - other[0]).max(axis=-1),
        one[1] * FLOAT32_EPS,
        2 * ACTIVATION,
        lambda at: f"{_firing(case.attribution.firings, int(one[2][at[0]]))}, a writer's part",
    )


def graph_climbs(case: Case) -> Ratio:
    """The circuit's graph has no cycle, and every edge leads to a higher layer: the ratio counts edges that do not.

    Bound: none. Source: METHOD.md, section 8. Catches: writers that are nodes apart from the readers that they are, an
    edge turned round.
    """
    graph = case.trace.graph()
    height = {name: writer_layer(name.partition("@")[0]) for name in graph if name != "output"}
    height |= {"output": case.model.config.n_layers} if "output" in graph else {}
    wrong = [f"{writer} → {reader}" for writer, reader, _ in graph.edges if height[writer] >= height[reader]]
    if not wrong and not nx.is_directed_acyclic_graph(graph):
        wrong = ["a cycle"]
    return broken("graph_climbs", wrong)


def walks_end(case: Case) -> Ratio:
    """From every node of a graph traced from the output a walk leads to the output: the ratio counts nodes without one.

    Bound: none. Source: METHOD.md, sections 7, 8 and 11. Catches: an edge that is followed to another token, head or
    prompt, and what is kept though no root reaches it.
    """
    if not case.processed.params.has_unembedding:
        return broken("walks_end", [])
    with precision(case.config):
        found = trace_prepared(case.prepared, case.prompts, replace(case.config, roots=LOGIT))
    graph = found.graph()
    reaching = {"output"} | (nx.ancestors(graph, "output") if "output" in graph else set())
    return broken("walks_end", sorted(set(graph) - reaching))


def paths_counted(case: Case) -> Ratio:
    """`paths(f) = [f is a root] + Σ paths over the edges that lead to f`, by recursion over the tables: the ratio
    counts the firings whose `paths` is another number.

    Bound: none, whole numbers. Source: METHOD.md, section 7. Catches: a layer visited before all that leads to it.
    """
    leading = defaultdict(list)
    for edge in case.trace.edges.to_pylist():
        if edge["writer_head"] is not None:
            at = (edge["prompt"], edge["writer_layer"], edge["writer_head"], edge["token"])
            leading[at].append(tuple(edge[name] for name in FIRING))
    ways: dict[tuple, int] = {}

    def count(at: tuple) -> int:
        if at not in ways:
            ways[at] = 1 + sum(count(reader) for reader in leading[at[:4]])
        return ways[at]

    rows = case.trace.firings.to_pylist()
    found = [(tuple(row[name] for name in FIRING), row["paths"]) for row in rows]
    return broken("paths_counted", [firing_name(at) for at, paths in found if min(count(at), 2**63 - 1) != paths])


_slices = jax.jit(choose_slices)
_covering = jax.jit(covering)


def _misses(
    values: Float[np.ndarray, "row value"], chosen: Bool[np.ndarray, "row value"], share: float
) -> Bool[np.ndarray, " row"]:
    """Where what is chosen is less than a share of the values' total, or more than it takes."""
    there = np.where(np.isfinite(values), values, 0).astype(np.float64)
    goal, size = share * there.sum(axis=-1), np.abs(there).sum(axis=-1)
    slack = 4 * np.finfo(values.dtype).eps * values.shape[-1] ** 0.5 * size
    smallest = np.min(np.where(chosen, values, np.inf), axis=-1, keepdims=True)
    whole, without = (np.sum(there, axis=-1, where=each) for each in (chosen, values > smallest))
    return (whole < goal - slack) | (without > goal + slack)


def _firing(firings: object, row: int) -> str:
    return firing_name(tuple(int(getattr(firings, name)[row]) for name in FIRING))


def _signal(vectors: np.ndarray, members: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `exact` interventions send of y: `y P`, P onto the first d rows of the members."""
    none = np.zeros(1, int)
    sending = Sending(
        writer=none,
        vectors_of=none,
        vectors=vectors[None],
        token=none[None],
        members=members[None, None],
        written=y[None, None],
    )
    return signals(sending, "exact", 0.0, none)[0, 0]


def _pairs_turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Columns 0 and 1, 2 and 3, … turned among themselves."""
    first, second = vectors[..., 0 : 2 * angle.shape[-1] : 2], vectors[..., 1 : 2 * angle.shape[-1] : 2]
    cos, sin = np.cos(angle)[..., None, :], np.sin(angle)[..., None, :]
    turned = vectors.copy()
    turned[..., 0 : 2 * angle.shape[-1] : 2] = cos * first - sin * second
    turned[..., 1 : 2 * angle.shape[-1] : 2] = sin * first + cos * second
    return turned


def _by_pair(case: Case, named: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c_wk on the destination side, summed over pairs [row writer pair], ‖α‖ ‖β‖ of each [row writer], and which firing
    of `named` each row is.
    """
    firings, found = named.attribution.firings, []
    for layer in np.unique(firings.layer).tolist():
        rows = np.flatnonzero(firings.layer == layer)
        calls, heads = in_blocks(rows, firings.head[rows])
        for call, head in zip(calls, heads, strict=True):
            at = np.maximum(call, 0)
            blocks = Blocks(prompt=firings.prompt[at], dest=firings.dest[at], src=firings.src[at], head=head)
            depth = writer_layers(layer, case.model.config.n_layers)
            seen = collect(case.observed, blocks, np.int32(layer), n_layers=depth, sides=("dest",))
            read = readers_of(case.prepared.readers[layer - 1], case.prepared.cores(layer), 0, jnp.asarray(head))
            b_O = jnp.asarray(case.prepared.model.params.blocks.b_O)
            terms = writer_terms(seen.written[0], read, b_O, method="exact", all_writers=True)
            alpha = np.moveaxis(np.asarray(terms, np.float64), 1, 2)[call >= 0]
            beta = np.asarray(seen.k, np.float64)[call >= 0][:, None]
            parts = (alpha * beta)[..., : 2 * (alpha.shape[-1] // 2)]
            size = np.linalg.norm(alpha, axis=-1) * np.linalg.norm(beta, axis=-1)
            found.append((parts.reshape(*parts.shape[:-1], -1, 2).sum(axis=-1), size, call[call >= 0]))
    widest = max(each[1].shape[1] for each in found)
    pad = [widest - each[1].shape[1] for each in found]
    return (
        np.concatenate([np.pad(each[0], ((0, 0), (0, n), (0, 0))) for each, n in zip(found, pad, strict=True)]),
        np.concatenate([np.pad(each[1], ((0, 0), (0, n))) for each, n in zip(found, pad, strict=True)]),
        np.concatenate([each[2] for each in found]),
    )

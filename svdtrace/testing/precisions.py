"""Laws of what is stored, made in parts, computed in double precision, differentiated, and drawn at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import gpt2jax
from gpt2jax import edits
from gpt2jax.params import Model
from svdtrace.folders.reading import read
from svdtrace.method.decomposition import FLOAT32_EPS, query_key_factors
from svdtrace.method.ratios import ACTIVATION, DECOMPOSED, Ratio, head_name, nothing, worst
from svdtrace.nulls.chance import p_values
from svdtrace.nulls.draws import (
    distinct_partners,
    kind_key,
    partners,
    random_rotations,
    random_slices,
    rank_groups,
)
from svdtrace.sweeping.running import sweep
from svdtrace.testing.cases import Case
from svdtrace.testing.comparing import compared
from svdtrace.testing.invariances import identical
from svdtrace.testing.passes import bare
from svdtrace.tracing.devices import precision

STEP = 1e-3
"""Of finite differences, in parts of the residual's own size."""
NULLS = 99
STATISTICS, VALUES, WITHIN = 1000, 24, 18
"""Of random slices: tests, singular values, and how many of these are within the rank."""
TURNS, TURNED = 300, 6
EXCHANGES, PARTNERS = 100, 8
"""Of random bases and shuffled prompts: tests, and what each turns or exchanges."""
AWAY = 100.0
"""Added to a statistic, since of what is negative p-values know nothing."""
KOLMOGOROV = 2.7
"""`P(√n D > 2.7) < 1e-6` (Kolmogorov 1933): a law that is drawn must not fail by chance."""


def saved_and_read(case: Case) -> Ratio:
    """A trace that is saved and read is the same: the ratio counts rows that differ.

    Bound: none, floats are stored as they are. Source: docs/formats.md. Catches: a column that is rounded, or not
    written.
    """
    with TemporaryDirectory() as folder:
        case.trace.save(Path(folder) / "trace")
        return identical("saved_and_read", case, case.put(trace=read(Path(folder) / "trace")))


def sweep_is_trace(case: Case) -> Ratio:
    """A sweep in two parts gives what a trace gives: the ratio of `compared`, `< 2 · 5e-5/ulp`.

    Bound: METHOD.md's. Source: METHOD.md, section 3. Catches: prompts numbered within their part, parts lost.
    """
    with TemporaryDirectory() as folder:
        size = -(-len(case.prompts) // 2)
        sweep(case.model, case.prompts, Path(folder) / "sweep", case.config, part_size=size)
        return compared("sweep_is_trace", case, case.put(trace=read(Path(folder) / "sweep")))


def double_precision(case: Case) -> Ratio:
    """float32 lies within METHOD.md's bounds of float64, stage by stage, and decides otherwise only where it says so:
    the ratio of `compared`, `< 5e-5/ulp`.

    Bound: METHOD.md's own, once, since float64 errs by nothing beside it. Source: METHOD.md, sections 3 and 4. Catches:
    a product in less than float32, and bounds that are too small for what they flag.
    """
    if case.config.dtype == "float64":
        return nothing("double_precision", ACTIVATION)
    double = replace(case, config=replace(case.config, dtype="float64"))
    return compared("double_precision", case, double, gain=0.5)


def gauge_gradient(case: Case) -> Ratio:
    """A function of the logits hangs on Ω alone, so that its gradient lies along no change of gauge:
    `‖Aᵀ ∂f/∂A − (Bᵀ ∂f/∂B)ᵀ‖ / ((‖A‖ ‖∂f/∂A‖ + ‖B‖ ‖∂f/∂B‖) ulp) < 2 · 5e-5/ulp`.

    It follows from f(A M, B M⁻ᵀ) = f(A, B) at M = I. Bound: METHOD.md's 5e-5, once forwards and once backwards.
    Source: METHOD.md, section 2. Catches: a derivative that is stopped or counted twice on one side of the scores.
    """
    if case.own.logits is None:
        return nothing("gauge_gradient", 2 * ACTIVATION)
    A, B = (np.asarray(each, np.float64) for each in query_key_factors(case.processed.params.blocks))
    of_A, of_B = query_key_gradients(case)
    error = np.swapaxes(A, -1, -2) @ of_A - np.swapaxes(np.swapaxes(B, -1, -2) @ of_B, -1, -2)
    sizes = [np.linalg.norm(each, axis=(-2, -1)) for each in (A, of_A, B, of_B)]
    unit = (sizes[0] * sizes[1] + sizes[2] * sizes[3]) * FLOAT32_EPS
    return worst("gauge_gradient", np.linalg.norm(error, axis=(-2, -1)), unit, 2 * ACTIVATION, head_name)


def query_key_gradients(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """∂f/∂A and ∂f/∂B of every head, [layer head d_model+1 d_head]; f weighs the first prompt's logits at random."""
    tokens = jnp.asarray([case.prompts[0].tokens])
    weigh = jnp.asarray(case.rng().normal(size=(*tokens.shape, case.model.config.d_vocab)), case.prepared.dtype)
    of_A, of_B = query_key_factors(_gradient(bare(case.processed), tokens, weigh).params.blocks)
    return np.asarray(of_A, np.float64), np.asarray(of_B, np.float64)


@jax.jit
def _gradient(model: Model, tokens: jax.Array, weigh: jax.Array) -> Model:
    return jax.grad(lambda each: jnp.sum(gpt2jax.forward(each, tokens).logits * weigh))(model)


def hook_gradient(case: Case) -> Ratio:
    """The derivative through a hook is that of finite differences: `|f′ − D(h)| / (|D(2h) − D(h)| + √ulp |f′|) < 1`.

    In float64, f a random function of the logits, the hook adding along a random direction in the middle of the model.
    Bound: central differences err by f‴h²/6, a third of |D(2h) − D(h)|. Catches: a hook that cuts the gradient, or is
    applied twice.
    """
    if case.own.logits is None:
        return nothing("hook_gradient", 1.0)
    derivative, differences = hook_derivatives(case)
    estimate = abs(differences[1] - differences[0]) + np.finfo(np.float64).eps ** 0.5 * abs(derivative)
    error, unit = np.asarray([abs(derivative - differences[0])]), np.asarray([estimate])
    return worst(
        "hook_gradient", error, unit, 1.0, lambda _: f"blocks.{case.model.config.n_layers // 2}.hook_resid_pre"
    )


def hook_derivatives(case: Case) -> tuple[float, tuple[float, float]]:
    """f′ by JAX, and D(h), D(2h)."""
    tokens, rng = jnp.asarray([case.prompts[0].tokens]), case.rng()
    own = case.own.taps["hook_resid_pre"][case.model.config.n_layers // 2, 0]
    size = np.linalg.norm(own, axis=-1).mean() / own.shape[-1] ** 0.5
    with precision(replace(case.config, dtype="float64")):
        model = jax.tree.map(lambda each: jnp.asarray(each, jnp.float64), bare(case.processed))
        weigh = jnp.asarray(rng.normal(size=(*tokens.shape, case.model.config.d_vocab)))
        along = jnp.asarray(rng.normal(size=own.shape[-1]) * size)

        def f(by: float) -> float:
            return float(_along(jnp.float64(by), model, tokens, weigh, along))

        by = [(f(step) - f(-step)) / (2 * step) for step in (STEP, 2 * STEP)]
        return float(_derivative(jnp.float64(0), model, tokens, weigh, along)), (by[0], by[1])


def _weighed(by: jax.Array, model: Model, tokens: jax.Array, weigh: jax.Array, along: jax.Array) -> jax.Array:
    site = f"blocks.{model.config.n_layers // 2}.hook_resid_pre"
    return jnp.sum(gpt2jax.forward(model, tokens, hooks={site: edits.add(by * along)}).logits * weigh)


_along = jax.jit(_weighed)
_derivative = jax.jit(jax.grad(_weighed))


def bases_keep_scores(case: Case) -> Ratio:
    """Random bases leave scores as they are: `|q̂R · k̂R − q̂ · k̂| / (|q̂| |k̂| h ulp) < 35` at every firing.

    Bound: R is orthonormal to h ulp (LAPACK, TESTING, dort01). Source: METHOD.md, section 12. Catches: an R that is not
    orthogonal, mixes what lies beyond the rank, or differs between q̂ and k̂.
    """
    made, h = case.attribution.firings, case.decomposition.S.shape[-1]
    if not len(made):
        return nothing("bases_keep_scores", DECOMPOSED)
    within = case.decomposition.within_rank()
    key = kind_key(case.seed, "bases")
    R = np.stack(
        [
            np.asarray(random_rotations(key, jnp.zeros(1, jnp.int32), rank_groups(each), jnp.dtype("float32")))[0]
            for each in within
        ]
    )[made.layer, made.head].astype(np.float64)
    at = (made.layer, made.prompt)
    q, k = (
        np.asarray(each, np.float64)[(*at, end, made.head)]
        for each, end in ((case.observed.q, made.dest), (case.observed.k, made.src))
    )
    error = np.abs(np.einsum("fk,fkm,fjm,fj->f", q, R, R, k, optimize=True) - np.einsum("fk,fk->f", q, k))
    unit = np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1) * h * FLOAT32_EPS
    return worst("bases_keep_scores", error, unit, DECOMPOSED, lambda at: f"firing {at[0]}")


def p_values_uniform(p: Float[np.ndarray, " test"], nulls: int) -> Ratio:
    """p-values of data drawn from the null itself are uniform on m / (1 + nulls): `√n sup |F_n(x) − x| < 2.7`.

    Below 1 / (1 + nulls), which no p can be, the ratio is infinite. Bound: Kolmogorov's, one in a million. Source:
    METHOD.md, section 12. Catches: an off-by-one in p, draws that repeat, that prefer some vectors, signs or partners,
    or go beyond the rank.
    """
    grid = np.arange(1, nulls + 2) / (nulls + 1)
    distance = np.abs(np.mean(p[:, None] <= grid[None] + 0.5 / (nulls + 1), axis=0) - grid)
    distance[0] = np.inf if np.any(p < 0.5 * grid[0]) else distance[0]
    return worst(
        "p_values_uniform", distance, np.full(len(grid), len(p) ** -0.5), KOLMOGOROV, lambda at: f"p ≤ {grid[at]:.3f}"
    )


def p_values_of_nulls(seed: int) -> dict[str, Float[np.ndarray, " test"]]:
    """p-values of data drawn from each null itself, by kind, by another program than the nulls' own draws, which they
    are held against: NumPy takes vectors without replacement, turns them at random and exchanges prompts.
    """
    rng = np.random.default_rng(seed)
    made = {kind: of_kind(seed, rng) for kind, of_kind in _STATISTICS.items()}
    return {kind: p_values(observed, null) for kind, (observed, null) in made.items()}


Statistics = tuple[Float[np.ndarray, " test"], Float[np.ndarray, "null test"]]


def _of_slices(seed: int, rng: np.random.Generator) -> Statistics:
    """Sums over slices of a third of the rank, of weights that rise with k, so that it tells which k are taken."""
    rank = np.tile(np.arange(VALUES) < WITHIN, (STATISTICS, 1))
    weights = rng.normal(size=rank.shape) + 4 + np.arange(VALUES) / 4
    taken = rng.permuted(np.tile(np.arange(WITHIN) < WITHIN // 3, (STATISTICS, 1)), axis=1)
    names = jnp.stack([jnp.arange(STATISTICS, dtype=jnp.uint32)] * 2, axis=-1)
    key, size = kind_key(seed, "slices"), jnp.full(STATISTICS, WITHIN // 3)
    keys = jax.vmap(lambda null: jax.random.fold_in(key, null))(jnp.arange(NULLS))
    drawn = np.asarray(_drawn_slices(keys, names, size, jnp.asarray(rank)))
    return np.sum(taken * weights[:, :WITHIN], axis=-1), np.sum(drawn * weights, axis=-1)


def _of_bases(seed: int, rng: np.random.Generator) -> Statistics:
    """A linear function of R, its trace among others, which is 0 on average."""
    shape = (TURNS, TURNED, TURNED)
    weights = rng.normal(size=shape) + np.eye(TURNED)
    Q, R = np.linalg.qr(rng.normal(size=shape))
    observed = Q * np.sign(np.diagonal(R, axis1=-2, axis2=-1))[:, None]
    group = jnp.zeros((TURNS, TURNED), jnp.int32)
    null = random_rotations(kind_key(seed, "bases"), jnp.arange(NULLS), group, jnp.dtype("float32"))
    mine, others = (AWAY + np.sum(weights * np.asarray(each, np.float64), axis=(-2, -1)) for each in (observed, null))
    return mine, others


def _of_partners(seed: int, rng: np.random.Generator) -> Statistics:
    """Sums over prompts of a weight for each with its partner, large for itself, and of weights of the partners alone,
    which cancel where each is taken once; one length a test.
    """
    places = np.arange(PARTNERS)
    alone = 20 * rng.normal(size=(EXCHANGES, 1, PARTNERS))
    alone -= alone.mean(axis=-1, keepdims=True)
    weights = rng.normal(size=(EXCHANGES, PARTNERS, PARTNERS)) + 4 * np.eye(PARTNERS) + alone
    # Of permutations one in e leaves nothing in its place.
    permuted = rng.permuted(np.tile(places, (10 * EXCHANGES, 1)), axis=1)
    observed = permuted[(permuted != places).all(axis=1)][:EXCHANGES]
    length = np.repeat(np.arange(1, EXCHANGES + 1), PARTNERS)
    choice, which = distinct_partners(np.stack([partners(seed, null, length) for null in range(NULLS)]))
    null = choice[which, np.arange(len(length))].reshape(NULLS, EXCHANGES, PARTNERS) % PARTNERS
    test = np.arange(EXCHANGES)[:, None]
    mine, others = (AWAY + np.sum(weights[test, places, each], axis=-1) for each in (observed, null))
    return mine, others


_STATISTICS = {"slices": _of_slices, "bases": _of_bases, "prompts": _of_partners}
_drawn_slices = jax.jit(jax.vmap(random_slices, in_axes=(0, None, None, None)))

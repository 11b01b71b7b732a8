"""Mutants of the method: decomposition, firings, slices, contributions, edges, relative attention."""

from __future__ import annotations

from mutants.mutant import Mutant


def method(name: str) -> str:
    """A module of the room."""
    return f"svdtrace/method/{name}.py"


def tests_of(name: str) -> str:
    """Its tests."""
    return f"tests/svdtrace/method/test_{name}.py"


DECOMPOSITION, FIRINGS, CUTS, SLICES = (method(each) for each in ("decomposition", "firings", "cuts", "slices"))
CONTRIBUTIONS, EDGES, BOUNDS, RELATIVE = (method(each) for each in ("contributions", "edges", "bounds", "relative"))
ORACLE = "tests/svdtrace/tracing/test_trace_against_oracle.py::test_every_row_equals_the_oracles"
RELATIVE_ORACLE = "tests/svdtrace/tracing/test_relative_against_oracle.py::test_every_row_equals_the_oracles"
RULE = "which pairs fire is a rule that no law can know"

MUTANTS = (
    Mutant(
        "decomposition: the bias row of Ω is dropped on the query's side",
        DECOMPOSITION,
        "blocks.b_Q[..., None, :]",
        "0 * blocks.b_Q[..., None, :]",
        tests_of("decomposition"),
    ),
    Mutant(
        "decomposition: Vᵀ is taken for V",
        DECOMPOSITION,
        'V = einsum("lndh,lnkh->lndk", Q[1], V_core_T)',
        'V = einsum("lndh,lnhk->lndk", Q[1], V_core_T)',
        tests_of("decomposition"),
    ),
    Mutant(
        "decomposition: the sign is turned on one side alone",
        DECOMPOSITION,
        "S=S, V=V * sign)",
        "S=S, V=V)",
        tests_of("decomposition"),
    ),
    Mutant(
        "decomposition: the rank is cut off at half of σ_0",
        DECOMPOSITION,
        "return self.S[..., :1] * self.U.shape[-2] * FLOAT32_EPS < self.S",
        "return self.S[..., :1] * 0.5 < self.S",
        tests_of("decomposition"),
    ),
    Mutant(
        "firings: padding and tokens behind the last traced one fire",
        FIRINGS,
        "dest = (token <= last[:, None]) & (token < length[:, None])",
        "dest = (token <= token) | (token < length[:, None])",
        tests_of("firings"),
    ),
    Mutant(
        "firings: a pattern of the very threshold does not fire",
        FIRINGS,
        "return pattern >= np.asarray(threshold",
        "return pattern > np.asarray(threshold",
        tests_of("firings"),
        unseen=RULE,
    ),
    Mutant(
        "slices: a sum that equals τ of the total counts as beyond it",
        CUTS,
        "exceeds = sums.total > goal[..., None]",
        "exceeds = sums.total >= goal[..., None]",
        tests_of("slices"),
        unseen="it tells only where a sum meets its goal exactly, or every product is 0 or above",
    ),
    Mutant(
        "slices: the cut's own product is left out",
        CUTS,
        "jnp.where(cut < n, sums.place <= cut, values > 0)",
        "jnp.where(cut < n, sums.place < cut, values > 0)",
        tests_of("slices"),
    ),
    Mutant(
        "bounds: an activation is thought to err a thousandth as much",
        BOUNDS,
        "ACTIVATION_ERROR = 5e-5",
        "ACTIVATION_ERROR = 5e-8",
        tests_of("bounds"),
    ),
    Mutant(
        "contributions: β of a raw model's LayerNorm is lost",
        CONTRIBUTIONS,
        'shift = einsum("d,zndk->znk", offset, read)',
        'shift = 0 * einsum("d,zndk->znk", offset, read)',
        ORACLE,
        unseen="`verify` explains folded weights, which have no β",
        raw=True,
    ),
    Mutant(
        "contributions: layers of writers stand in the wrong order",
        CONTRIBUTIONS,
        'einsum("mahd,zndk->znmahk", W_O.astype(weights.dtype), weights)',
        'einsum("mahd,zndk->znmahk", W_O[::-1].astype(weights.dtype), weights)',
        ORACLE,
    ),
    Mutant(
        "contributions: the attention's bias is no writer",
        CONTRIBUTIONS,
        'biases = einsum("md,gdk->gmk", b_O.astype(weights.dtype), weights)[:, :, None] / scale',
        'biases = 0 * einsum("md,gdk->gmk", b_O.astype(weights.dtype), weights)[:, :, None] / scale',
        ORACLE,
    ),
    Mutant(
        "edges: coverage is a share of the positive contributions",
        EDGES,
        "return jnp.sum(jnp.where(weight > -jnp.inf, weight, 0), axis=-1)",
        "return jnp.sum(jnp.where(weight > 0, weight, 0), axis=-1)",
        tests_of("edges"),
    ),
    Mutant(
        "relative: the first panel of the path is half as wide",
        RELATIVE,
        "if panel else 2.0**-4",
        "if panel else 2.0**-5",
        tests_of("relative"),
    ),
    Mutant(
        "relative: a row's mean is over the padded keys too",
        RELATIVE,
        "jnp.sum(among, -1, keepdims=True, dtype=rows.dtype)",
        "rows.shape[-1]",
        RELATIVE_ORACLE,
    ),
    Mutant(
        "relative: writers are taken out smallest first",
        method("taking"),
        "return jnp.argsort(-weight, axis=-1, stable=True)",
        "return jnp.argsort(weight, axis=-1, stable=True)",
        RELATIVE_ORACLE,
    ),
)

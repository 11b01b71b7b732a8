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
        "decomposition: the largest entry of u_k is negative",
        DECOMPOSITION,
        "axis=-2) < 0, -1, 1)",
        "axis=-2) < 0, 1, -1)",
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
        "decomposition: noise beyond the rank stays in the gauge",
        DECOMPOSITION,
        "root = jnp.sqrt(jnp.where(decomposition.within_rank(), decomposition.S, 0))[..., None, :]",
        "root = jnp.sqrt(decomposition.S)[..., None, :]",
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
        "decomposition: keys are read with U",
        DECOMPOSITION,
        "return decomposition.U * root, decomposition.V * root",
        "return decomposition.U * root, decomposition.U * root",
        ORACLE,
    ),
    Mutant(
        "firings: padding and tokens behind the last traced one fire",
        FIRINGS,
        "dest = (token <= last[:, None]) & (token < length[:, None])",
        "dest = (token <= token) | (token < length[:, None])",
        tests_of("firings"),
    ),
    Mutant(
        "firings: the first token counts as a source",
        FIRINGS,
        "token >= (1 if skip_first else 0)",
        "token >= (0 if skip_first else 0)",
        tests_of("firings"),
        unseen=RULE,
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
        "firings: sources and destinations are exchanged in the list",
        FIRINGS,
        "columns = (prompt, layer, head, dest, src)\n    listed = FiringList(",
        "columns = (prompt, layer, head, src, dest)\n    listed = FiringList(",
        tests_of("firings"),
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
        "slices: products are sorted ascending",
        CUTS,
        "before = (other > values)",
        "before = (other < values)",
        tests_of("cuts"),
    ),
    Mutant(
        "slices: the cut's own product is left out",
        CUTS,
        "jnp.where(cut < n, sums.place <= cut, values > 0)",
        "jnp.where(cut < n, sums.place < cut, values > 0)",
        tests_of("slices"),
    ),
    Mutant(
        "slices: τ is a share of the positive products",
        SLICES,
        "goal = tau * total\n",
        "goal = tau * jnp.sum(jnp.maximum(oriented, 0), axis=-1)\n",
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
        "bounds: near-equal singular vectors are thought not to turn",
        BOUNDS,
        "return jnp.minimum(1, TURNING * self.nearness)",
        "return 0 * jnp.minimum(1, TURNING * self.nearness)",
        tests_of("bounds"),
        unseen="no head that is drawn has singular values near enough to each other",
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
        "contributions: what is read is not centred",
        CONTRIBUTIONS,
        "read = read - jnp.mean(read, axis=-2, keepdims=True)",
        "read = read + 0 * jnp.mean(read, axis=-2, keepdims=True)",
        ORACLE,
        unseen="folded weights are centred already",
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
        "contributions: a query is weighed by itself and not by the key",
        CONTRIBUTIONS,
        "both = jnp.stack([k, q]) if",
        "both = jnp.stack([q, k]) if",
        ORACLE,
    ),
    Mutant(
        "contributions: the attention's bias is no writer",
        CONTRIBUTIONS,
        'biases = einsum("md,gdk->gmk", b_O.astype(weights.dtype), weights)[:, :, None]',
        'biases = 0 * einsum("md,gdk->gmk", b_O.astype(weights.dtype), weights)[:, :, None]',
        ORACLE,
    ),
    Mutant(
        "contributions: the constant is divided by LayerNorm's scale",
        CONTRIBUTIONS,
        "const = jnp.broadcast_to((shift + bias)[:, None, None, :], (n_blocks, 1, n_slots, bias.shape[-1]))",
        "const = jnp.broadcast_to((shift + bias)[:, None, None, :], (n_blocks, 1, n_slots, bias.shape[-1])) / scale",
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
        "edges: the last writer that it takes is left out",
        EDGES,
        "return weight >= cut_beyond(weight, coverage * total_of(weight))[..., None]",
        "return weight > cut_beyond(weight, coverage * total_of(weight))[..., None]",
        ORACLE,
    ),
    Mutant(
        "relative: the first panel of the path is half as wide",
        RELATIVE,
        "if panel else 2.0**-4",
        "if panel else 2.0**-5",
        tests_of("relative"),
    ),
    Mutant(
        "relative: rivals have the sign of the key asked about",
        RELATIVE,
        "return jnp.where(at_src, jnp.sum(others, axis=-1, keepdims=True), -others)",
        "return jnp.where(at_src, jnp.sum(others, axis=-1, keepdims=True), others)",
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
        "relative: a drop has the wrong sign",
        method("taking"),
        "drop = jnp.take_along_axis(before - after, place, -1)",
        "drop = jnp.take_along_axis(after - before, place, -1)",
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

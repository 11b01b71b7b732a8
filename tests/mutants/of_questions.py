"""Mutants of what is asked of traces: interventions, nulls, sweeps, graphs, folders, the atlas."""

from __future__ import annotations

from mutants.mutant import Mutant

SIGNALS, EDITS = "svdtrace/interventions/signals.py", "svdtrace/interventions/edits.py"
DRAWS, CHANCE = "svdtrace/nulls/draws.py", "svdtrace/nulls/chance.py"
OF_EDITS, OF_VARIANTS = (f"tests/svdtrace/interventions/test_{name}.py" for name in ("against_oracle", "variants"))
OF_DRAWS = "tests/svdtrace/nulls/test_draws.py"
GRAPH = "svdtrace/results/circuit_graph.py"
OF_GRAPH = "tests/svdtrace/tracing/test_trace_against_oracle.py::test_graph_of_the_same_rows"
NOT_RUN = "`verify` runs no interventions, only the signals that they send"
SINGLE = "`verify` takes each singular vector alone, as a trace does"

MUTANTS = (
    Mutant(
        "interventions: vectors lose their first entry instead of their last",
        SIGNALS,
        "B, last = vectors[:-1], vectors[-1]",
        "B, last = vectors[1:], vectors[0]",
        OF_VARIANTS,
    ),
    Mutant(
        "interventions: the projector of `exact` is that of `paper`",
        SIGNALS,
        "if not orthonormal:\n",
        "if not orthonormal and len(vectors) < 0:\n",
        OF_VARIANTS,
    ),
    Mutant(
        "interventions: ablating boosts",
        EDITS,
        "return replace(edit, delta=sign * edit.delta)",
        "return replace(edit, delta=-sign * edit.delta)",
        OF_EDITS,
        unseen=NOT_RUN,
    ),
    Mutant(
        "interventions: controls are drawn from S",
        SIGNALS,
        "key = np.where(members | ~rank, np.inf, key)",
        "key = np.where(~members | ~rank, np.inf, key)",
        OF_VARIANTS,
        unseen=NOT_RUN,
    ),
    Mutant(
        "nulls: all nulls share their draws",
        DRAWS,
        "own = jax.random.fold_in(jax.random.fold_in(key, name[0]), name[1])",
        "own = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), name[0]), name[1])",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: rotations mix what lies beyond the rank",
        DRAWS,
        "Q, R = jnp.linalg.qr(jnp.where(together, gaussian, 0))",
        "Q, R = jnp.linalg.qr(gaussian)",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: a prompt may be its own partner",
        DRAWS,
        "if not np.any(drawn == np.arange(n)):",
        "if not np.all(drawn == np.arange(n)):",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: distinct partners of a prompt stand in another order than what picks from them",
        DRAWS,
        "choice[: len(each), prompt] = each",
        "choice[: len(each), prompt] = each[::-1]",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: a slice counts the vectors passed as those still there",
        DRAWS,
        "there = jnp.cumsum(rank[..., ::-1], axis=-1, dtype=jnp.int32)[..., ::-1].astype(jnp.float32)",
        "there = jnp.cumsum(rank, axis=-1, dtype=jnp.int32).astype(jnp.float32)",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: rotations keep the signs that QR gives",
        DRAWS,
        "sign = jnp.where(jnp.diagonal(R, axis1=-2, axis2=-1) < 0, -1, 1).astype(dtype)",
        "sign = jnp.where(jnp.diagonal(R, axis1=-2, axis2=-1) < 0, 1, 1).astype(dtype)",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: all turn alike",
        DRAWS,
        "jax.random.fold_in(key, each))(jnp.maximum(null, 0))",
        "jax.random.fold_in(key, 0 * each))(jnp.maximum(null, 0))",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: blocks are of singular values that lie apart",
        DRAWS,
        "apart = S[..., :-1] - S[..., 1:] > within * S[..., :-1]",
        "apart = S[..., :-1] - S[..., 1:] < within * S[..., :-1]",
        OF_DRAWS,
        unseen=SINGLE,
    ),
    Mutant(
        "nulls: the observed value is not counted among the nulls",
        CHANCE,
        "return (1 + beaten) / (1 + len(null))",
        "return beaten / len(null)",
        OF_DRAWS,
    ),
    Mutant(
        "sweeps: prompts are numbered within their part",
        "svdtrace/tracing/tables.py",
        "pa.array(at[own], pa.int32())",
        "pa.array(own, pa.int32())",
        "tests/svdtrace/sweeping/test_sweep.py",
    ),
    Mutant(
        "caches: folded weights are answered with the decomposition of the raw ones",
        "svdtrace/tracing/trace.py",
        'key=f"{name}-{config.processing}-{config.dtype}"',
        "key=name",
        "tests/svdtrace/results/test_decompositions.py",
        unseen="one processing alone goes through the cache",
    ),
    Mutant(
        "graphs: edges point from reader to writer",
        GRAPH,
        "graph.add_edge(names[writer[group]], names[reader[group]],",
        "graph.add_edge(names[reader[group]], names[writer[group]],",
        OF_GRAPH,
    ),
    Mutant(
        "graphs: a mean weight is over prompts, not over occurrences",
        GRAPH,
        "float(self._sums[name][group] / count)",
        "float(self._sums[name][group] / self._prompts[group])",
        OF_GRAPH,
        unseen="laws of graphs are of nodes and edges, not of their numbers",
    ),
)

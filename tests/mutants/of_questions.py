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
NOT_ASKED = "`verify` draws slices and bases, no partners"

MUTANTS = (
    Mutant(
        "interventions: the projector of `exact` is that of `paper`",
        SIGNALS,
        "if not orthonormal:\n",
        "if not orthonormal and len(vectors) < 0:\n",
        OF_VARIANTS,
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
        "nulls: rotations mix what lies beyond the rank",
        DRAWS,
        "Q, R = jnp.linalg.qr(jnp.where(together, gaussian, 0))",
        "Q, R = jnp.linalg.qr(gaussian)",
        OF_DRAWS,
    ),
    Mutant(
        "nulls: the observed value is not counted among the nulls",
        CHANCE,
        "return (1 + beaten) / (1 + len(null))",
        "return beaten / len(null)",
        OF_DRAWS,
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
        "graphs: a mean weight is over prompts, not over occurrences",
        GRAPH,
        "float(self._sums[name][group] / count)",
        "float(self._sums[name][group] / self._prompts[group])",
        OF_GRAPH,
        unseen="laws of graphs are of nodes and edges, not of their numbers",
    ),
)

"""Mutants of tracing: what is prepared, observed, gathered, followed and counted."""

from __future__ import annotations

from mutants.mutant import Mutant
from mutants.of_method import ORACLE, RELATIVE_ORACLE


def tracing(name: str) -> str:
    """A module of the room."""
    return f"svdtrace/tracing/{name}.py"


OBSERVE, ATTRIBUTE, ROWS, PATHS, ROOTS, PREPARE = map(
    tracing, ("observe", "attribute", "rows", "paths", "roots", "prepare")
)
OF_PATHS = "tests/svdtrace/tracing/test_paths.py"
OF_ROOTS = "tests/svdtrace/tracing/test_trace_against_oracle.py::test_root_heads_and_what_they_write"
DIRECTION = "laws of graphs hold whatever the roots are"

MUTANTS = (
    Mutant(
        "prepared: a layer is given the cores of the one before",
        PREPARE,
        "return self.held_cores[layer - 1]",
        "return self.held_cores[layer - 2]",
        ORACLE,
    ),
    Mutant(
        "observed: MLPs are kept from the layer before (memory of another batch)",
        OBSERVE,
        "here = {name: _at_layer(getattr(room, name), seen[site], layer) for name, site in wanted.items()}",
        'here = {name: _at_layer(getattr(room, name), seen[site], layer - (name == "mlp_out")) '
        "for name, site in wanted.items()}",
        ORACLE,
    ),
    Mutant(
        "gathered: LayerNorm's scale is that of the layer below",
        ATTRIBUTE,
        "scale=by_place(observed.scale)[layer, place]",
        "scale=by_place(observed.scale)[layer - 1, place]",
        ORACLE,
    ),
    Mutant(
        "gathered: keys are those of the first prompt",
        ATTRIBUTE,
        "k=at(observed.k, layer, blocks.prompt, blocks.src, head)",
        "k=at(observed.k, layer, 0 * blocks.prompt, blocks.src, head)",
        ORACLE,
    ),
    Mutant(
        "rows: an edge's token is that of the other side",
        ROWS,
        "token = np.where(side == 0, firings.dest[firing], firings.src[firing])",
        "token = np.where(side == 1, firings.dest[firing], firings.src[firing])",
        ORACLE,
    ),
    Mutant(
        "rows: products stand in the order of k",
        ROWS,
        "at = offset[chunk.row[block, slot]] + np.asarray(chunk.result.slices.place)[found]",
        "at = offset[chunk.row[block, slot]] + (np.cumsum(marked, axis=-1) - 1)[found]",
        ORACLE,
        unseen="laws compare slices as sets, since near-equal products may change places",
    ),
    Mutant(
        "paths: an edge leads on at the reader's destination, whatever its token",
        PATHS,
        "order.head[writer], token[rows])\n    first",
        "order.head[writer], firings.dest[edges.firing[rows]])\n    first",
        OF_PATHS,
        unseen="in so small a model no edge of the source's side leads on",
    ),
    Mutant(
        "roots: the distractor's logit is added",
        ROOTS,
        "direct = W_U.T[jnp.maximum(answer, 0)] - W_U.T[jnp.maximum(distractor, 0)]",
        "direct = W_U.T[jnp.maximum(answer, 0)] + W_U.T[jnp.maximum(distractor, 0)]",
        OF_ROOTS,
        unseen=DIRECTION,
    ),
    Mutant(
        "relative: the source's coefficients lack attn_scale",
        tracing("relative"),
        '"src": jnp.where(members, attn_scale * found.q, 0)',
        '"src": jnp.where(members, found.q, 0)',
        RELATIVE_ORACLE,
    ),
)

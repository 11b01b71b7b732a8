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
        "prepared: every layer has the first one's attn_scale",
        PREPARE,
        "attn_scale(config, layer, A.dtype) for layer",
        "attn_scale(config, 0, A.dtype) for layer",
        "tests/svdtrace/tracing/test_prepare.py",
    ),
    Mutant(
        "prepared: a layer is given the cores of the one before",
        PREPARE,
        "return self.held_cores[layer - 1]",
        "return self.held_cores[layer - 2]",
        ORACLE,
    ),
    Mutant(
        "observed: positions are one too high",
        OBSERVE,
        "embed(params, tokens, jnp.broadcast_to(token, tokens.shape), stem)",
        "embed(params, tokens, jnp.broadcast_to(token + 1, tokens.shape), stem)",
        ORACLE,
    ),
    Mutant(
        "observed: MLPs are kept from the layer before (memory of another batch)",
        OBSERVE,
        "{name: _at_layer(getattr(room, name), seen[site], layer) for name, site in wanted.items()}",
        '{name: _at_layer(getattr(room, name), seen[site], layer - (name == "mlp_out")) '
        "for name, site in wanted.items()}",
        ORACLE,
    ),
    Mutant(
        "gathered: LayerNorm's scale is that of the destination on both sides",
        ATTRIBUTE,
        "scale=by_place(observed.scale)[layer, place]",
        "scale=by_place(observed.scale)[layer, blocks.prompt * n_tokens + blocks.dest]",
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
        "gathered: writers at the token before",
        ATTRIBUTE,
        'place = blocks.prompt * n_tokens + (blocks.dest if side == "dest" else blocks.src)',
        'place = blocks.prompt * n_tokens + (blocks.dest if side == "dest" else blocks.src) - 1',
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
        "attributed: writers of the reader's own layer are there",
        ATTRIBUTE,
        "below = jnp.arange(n_layers, dtype=layer.dtype) < layer",
        "below = jnp.arange(n_layers, dtype=layer.dtype) <= layer",
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
        "rows: MLPs and attention biases are called by each other's names",
        ROWS,
        "n_all_heads + np.arange(layer),\n                n_all_heads + self.n_layers + np.arange(layer),",
        "n_all_heads + self.n_layers + np.arange(layer),\n                n_all_heads + np.arange(layer),",
        ORACLE,
        unseen="what a writer is called is a name, and laws know sums alone",
    ),
    Mutant(
        "rows: products stand in the order of k",
        ROWS,
        "at = offset[chunk.row[block, slot]] + np.asarray(chunk.result.slices.place)[found]",
        "at = offset[chunk.row[block, slot]] + (np.cumsum(marked, axis=-1) - 1)[found]",
        ORACLE,
    ),
    Mutant(
        "paths: layers are visited from below",
        PATHS,
        "sorted(set(layer.tolist()), reverse=True)",
        "sorted(set(layer.tolist()), reverse=False)",
        OF_PATHS,
        unseen="with three layers no way has two steps between firings",
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
        "paths: each is counted twice",
        PATHS,
        "np.add.at(paths, target[rows], paths[source[rows]])",
        "np.add.at(paths, target[rows], 2 * paths[source[rows]])",
        OF_PATHS,
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
        "relative: an edge's parts are read with the scale of the writer's layer",
        tracing("attended"),
        "scale = observed.scale[layer, edges.prompt, edges.token]",
        "scale = observed.scale[edges.writer_layer, edges.prompt, edges.token]",
        RELATIVE_ORACLE,
    ),
    Mutant(
        "relative: the source's coefficients lack attn_scale",
        tracing("relative"),
        '"src": jnp.where(members, attn_scale * found.q, 0)',
        '"src": jnp.where(members, found.q, 0)',
        RELATIVE_ORACLE,
    ),
)

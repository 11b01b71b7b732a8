"""What nodes of an attribution graph are called: names that different nodes never share.

Of a layer: `LAYER_INDEX_TOKEN`, a head's index being its number, that of other writers following after the heads. Of
the input: `E_ID_TOKEN` for the embedding of a token with this id, as circuit-tracer has it, and `E_pos_TOKEN`,
`E_const_TOKEN` for what is no token. The output stands one layer above all, its index the token whose logit it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from svdtrace.prompts.edge_names import OUTPUT, writer_layer

INPUT = "E"
_IN_LAYERS = ("mlp", "attn_bias")
_OF_INPUT = ("pos", "const")

Place = tuple[str, int]
"""A writer at a token."""


@dataclass(frozen=True)
class NodeNames:
    """What places are called in the file.

    Args:
        tokens: the prompt's ids.
        n_heads, n_layers: of the model.
        target: the token whose logit the output is.
    """

    tokens: Sequence[int]
    n_heads: int
    n_layers: int
    target: int = 0

    def layer(self, writer: str) -> str:
        """A writer's layer, or that of the input."""
        if writer == OUTPUT:
            return str(self.n_layers)
        return str(writer_layer(writer)) if writer_layer(writer) >= 0 else INPUT

    def node(self, place: Place) -> str:
        """`node_id`."""
        return f"{self._stem(place)}_{place[1]}"

    def page(self, place: Place) -> str:
        """`jsNodeId`, in the page; never the same as a `node_id`."""
        return f"{self._stem(place)}-{place[1]}"

    def feature(self, place: Place) -> int:
        """`feature`: the Cantor pairing of layer and index; what is of the input is negative and in no layer.

        The same at every token, as it is the same head, or the same token's embedding, that stands there.
        """
        writer, token = place
        layer = self.layer(writer)
        if layer != INPUT:
            both = int(layer) + self._index(writer)
            return both * (both + 1) // 2 + self._index(writer)
        return -1 - (_OF_INPUT.index(writer) if writer in _OF_INPUT else len(_OF_INPUT) + self.tokens[token])

    def _index(self, writer: str) -> int:
        if writer == OUTPUT:
            return self.target
        kind, _, number = writer.partition(".")
        return int(number) if kind.isdigit() else self.n_heads + _IN_LAYERS.index(kind)

    def _stem(self, place: Place) -> str:
        writer, token = place
        layer = self.layer(writer)
        if layer != INPUT:
            return f"{layer}_{self._index(writer)}"
        return f"{layer}_{writer if writer in _OF_INPUT else self.tokens[token]}"

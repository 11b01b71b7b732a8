"""Edges by name: `WRITER:READER@DEST:SRC/SIDE`, as in `8.6:9.9@end:IO/dest`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svdtrace.errors import EdgeError
from svdtrace.prompts.values import whole_number

if TYPE_CHECKING:
    from gpt2jax.config import GPT2Config

OUTPUT = "output"
"""What root heads write into where roots come from the output; no writer, and no end of an edge that can be named."""

# No model has layers or heads of ten digits, and Python reads no number of thousands.
_FORM = re.compile(r"([^:@/]+):(\d{1,9})\.(\d{1,9})@([^@:,/]+):([^@:,/]+)/(dest|src)")
_WRITER = re.compile(r"(\d{1,9})\.(\d{1,9})|(mlp|attn_bias)\.(\d{1,9})|(embed|pos|const)")


@dataclass(frozen=True)
class EdgeName:
    """`writer` wrote into what head `layer.head` reads on one side of its firing at (dest, src).

    Each end is a role or a position; `side` is `dest` (the query, at token dest) or `src` (the key, at token src).
    """

    writer: str
    layer: int
    head: int
    dest: str
    src: str
    side: str

    @property
    def token(self) -> str:
        """The end at which the writer wrote."""
        return self.dest if self.side == "dest" else self.src

    @property
    def reader(self) -> str:
        """The reading head, `9.9`."""
        return f"{self.layer}.{self.head}"

    def __str__(self) -> str:
        return f"{self.writer}:{self.reader}@{self.dest}:{self.src}/{self.side}"


def position(end: str, roles: Mapping[str, int]) -> int | None:
    """Where an end stands in a prompt with these roles, if anywhere. A role wins over a position of the same text."""
    return roles.get(end, whole_number(end))


def writer_layer(writer: str) -> int:
    """The layer of a writer; -1 for what enters before the first, `embed`, `pos`, `const`."""
    match = _WRITER.fullmatch(writer)
    number = match and (match[1] or match[4])
    return int(number) if number else -1


def named_edge(text: str) -> EdgeName:
    """Read an edge's name, whatever the model.

    Raises:
        EdgeError: not of the form.
    """
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise EdgeError(f'edge "{text}" is not of the form WRITER:READER@DEST:SRC/SIDE; write e.g. 8.6:9.9@end:IO/dest')
    return EdgeName(match[1], int(match[2]), int(match[3]), match[4], match[5], match[6])


def parse_edge(text: str, config: GPT2Config) -> EdgeName:
    """Read an edge's name.

    Raises:
        EdgeError: not of the form, no such head or writer, or a writer that does not stand below its reader.
    """
    name = named_edge(text)
    writer = _WRITER.fullmatch(name.writer)
    if not writer:
        raise EdgeError(
            f'edge "{text}": no writer is named "{name.writer}"; writers are heads (8.6), mlp.L, attn_bias.L, '
            "embed, pos and const"
        )
    heads = [(name.layer, name.head)] + ([(int(writer[1]), int(writer[2]))] if writer[1] else [])
    for layer, head in heads:
        if layer >= config.n_layers or head >= config.n_heads:
            raise EdgeError(
                f'edge "{text}": the model has no head {layer}.{head}; layers go from 0 to {config.n_layers - 1}, '
                f"heads from 0 to {config.n_heads - 1}"
            )
    if writer_layer(name.writer) >= name.layer:
        raise EdgeError(
            f'edge "{text}": {name.writer} does not stand below layer {name.layer}; name a writer of an earlier layer'
        )
    return name

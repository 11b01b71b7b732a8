"""Edges by name: read, written back, refused in one line."""

from __future__ import annotations

import re

import pytest

from gpt2jax.config import GPT2Config
from svdtrace.errors import EdgeError
from svdtrace.prompts.edge_names import EdgeName, parse_edge, position, writer_layer

CONFIG = GPT2Config(n_layers=12, n_heads=12, d_model=48, d_mlp=4, n_ctx=12, d_vocab=40)


@pytest.mark.parametrize(
    "text",
    [
        "8.6:9.9@end:IO/dest",
        "mlp.3:4.11@7:6/src",
        "attn_bias.0:1.0@S1+1:S1/dest",
        "embed:1.2@end:2/src",
        "pos:3.3@a:b/src",
    ],
)
def test_what_is_read_is_written(text: str):
    assert str(parse_edge(f" {text} ", CONFIG)) == text


def test_its_parts():
    edge = parse_edge("8.6:9.9@end:IO/src", CONFIG)
    assert edge == EdgeName("8.6", 9, 9, "end", "IO", "src")
    assert (edge.token, edge.reader) == ("IO", "9.9")
    assert parse_edge("8.6:9.9@end:IO/dest", CONFIG).token == "end"
    assert [writer_layer(each) for each in ("8.6", "mlp.11", "attn_bias.2", "embed", "pos", "const")] == [
        *(8, 11, 2),
        *(-1, -1, -1),
    ]
    assert [position(end, {"IO": 3, "4": 9}) for end in ("IO", "4", "5", "S2")] == [3, 9, 5, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.6:9.9@end:IO", "is not of the form"),
        ("8.6:9.9@end/dest", "is not of the form"),
        ("8.6:9.9@end:IO/both", "is not of the form"),
        ("mlp:9.9@end:IO/dest", 'no writer is named "mlp"'),
        ("8.12:9.9@end:IO/dest", "the model has no head 8.12"),
        ("8.6:12.9@end:IO/dest", "the model has no head 12.9"),
        ("9.6:9.9@end:IO/dest", "9.6 does not stand below layer 9"),
        ("mlp.9:9.9@end:IO/dest", "mlp.9 does not stand below layer 9"),
    ],
)
def test_what_is_refused(text: str, expected: str):
    with pytest.raises(EdgeError, match=re.escape(expected)):
        parse_edge(text, CONFIG)

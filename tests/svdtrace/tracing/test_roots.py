"""Roots as they are written and what they name."""

from __future__ import annotations

import numpy as np
import pytest

import gpt2jax
from svdtrace.errors import RootError
from svdtrace.method.firings import FiringList
from svdtrace.prompts import Prompt
from svdtrace.tracing.roots import Root, named_roots, parse_roots

CONFIG = gpt2jax.GPT2Config(n_layers=12, n_heads=12, d_model=24, d_mlp=8, n_ctx=16, d_vocab=10)
PROMPTS = [
    Prompt(None, (1, 2, 3, 4), ("",) * 4, {"IO": 1, "end": 3}),
    Prompt(None, (1, 2, 3, 4, 5), ("",) * 5, {"IO": 2, "2": 4}),
]


def firings(places: list[tuple[int, int, int, int, int]]) -> FiringList:
    columns = np.asarray(places, np.int32).T
    return FiringList(*columns, pattern=np.zeros(len(places)), score=np.zeros(len(places)))


def test_roots_are_read() -> None:
    """Catches layers and heads that change places, and blanks that are not allowed for."""
    assert parse_roots("9.6@end:IO, 10.0@*:2", CONFIG, PROMPTS) == (Root(9, 6, "end", "IO"), Root(10, 0, "*", "2"))
    assert parse_roots("all", CONFIG, PROMPTS) == parse_roots("logit", CONFIG, PROMPTS) == ()
    assert str(Root(9, 6, "end", "IO")) == "9.6@end:IO"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9.6", "not of the form"),
        ("9.6@end", "not of the form"),
        ("9.6@end:IO,", "not of the form"),
        ("a.b@end:IO", "not of the form"),
        ("12.0@end:IO", "layers go from 0 to 11"),
        ("3.12@end:IO", "heads from 0 to 11"),
        ("0.3@end:IO", "layer 0"),
        ("9.6@end:S1", 'no prompt has a role "S1"; they have 2, IO, end'),
        ("9.6@5:IO", "position 5 is outside every prompt"),
    ],
)
def test_what_is_no_root_is_refused(text: str, says: str) -> None:
    """Catches a mistake that silently names nothing."""
    with pytest.raises(RootError) as caught:
        parse_roots(text, CONFIG, PROMPTS)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.6@end:IO", [True, False, False, False, False]),  # the second prompt has no `end`
        ("9.6@3:*", [True, True, False, True, False]),
        ("9.6@*:2", [False, True, False, False, True]),  # a role wins over the position that it looks like
        ("9.6@*:IO,9.7@*:*", [True, False, True, True, False]),
        ("9.6@*:*", [True, True, False, True, True]),
    ],
)
def test_what_roots_name(text: str, expected: list[bool]) -> None:
    """Catches roles of another prompt, `*` that asks for a role, and ends that change places."""
    listed = firings([(0, 9, 6, 3, 1), (0, 9, 6, 3, 2), (0, 9, 7, 3, 1), (1, 9, 6, 3, 2), (1, 9, 6, 4, 4)])
    roots = parse_roots(text, CONFIG, PROMPTS)
    assert named_roots(listed, roots, PROMPTS).tolist() == expected
    columns = (listed.prompt, listed.layer, listed.head, listed.dest, listed.src)
    places = list(zip(*(column.tolist() for column in columns), strict=True))
    each = [any(root.names(tuple(place), PROMPTS[prompt].roles) for root in roots) for prompt, *place in places]
    assert each == expected

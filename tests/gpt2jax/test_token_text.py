"""Bytes shown as text and back, and how vocabularies write text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2jax.token_text import Spelling, characters, displayed, text_of_strings, undisplayed

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Texts that look like escapes, beside any others.
AWKWARD = st.text(st.sampled_from("\\x59abcdef8🙂é "), max_size=12)
PLAIN = Spelling(False, False, None, False, "", "", "")


@given(raw=st.binary(max_size=12) | AWKWARD.map(str.encode))
@example(raw=rb"\x5c")
@example(raw=rb"\\x99" + b"\x99")
def test_display_is_undone_exactly(raw: bytes):
    assert undisplayed(displayed(raw)) == raw


@given(text=TEXTS | AWKWARD, data=st.data())
def test_running_text_of_strings_cut_anywhere(text: str, data: st.DataObject):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(raw)])]
    assert text_of_strings(displayed(piece) for piece in pieces) == text
    shown, spans = characters(raw, list(itertools.pairwise([0, *cuts, len(raw)])))
    assert shown == text
    for piece, (start, stop) in zip(pieces, spans, strict=True):
        held = text[start:stop].encode()
        assert piece in held
        assert len(held) - len(piece) < 7  # at most parts of the characters at both ends


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (" Mary’s".encode(), " Mary’s"),
        (b" \xf0\x9f", r" \xf0\x9f"),
        (rb"C:\x", r"C:\x"),
        (rb"\x41\xe9", r"\x41\x5cxe9"),
    ],
)
def test_what_is_shown(raw: bytes, shown: str):
    assert displayed(raw) == shown


def test_bytes_that_are_no_text():
    assert characters(b"a\xf0\x9fb\xff", [(0, 2), (2, 4), (4, 5)]) == ("a�b�", [(0, 2), (1, 3), (3, 4)])
    assert text_of_strings(["a", r"\xf0\x9f", "b"]) == "a�b"


@pytest.mark.parametrize(
    ("settings", "tokens", "text", "spans"),
    [
        ({"continuing": "##"}, ["un", "##do", "it"], "undo it", [(0, 2), (2, 4), (5, 7)]),
        ({"ending": "</w>"}, ["un", "do</w>", "it</w>"], "undo it", [(0, 2), (2, 4), (5, 7)]),
        ({"separator": "|"}, ["a", "b"], "a|b", [(0, 1), (2, 3)]),
        ({"space": "▁", "leading": True}, ["▁un", "do", "▁it"], "undo it", [(0, 2), (2, 4), (4, 7)]),
        ({"space": "▁"}, ["▁un", "do"], " undo", [(0, 3), (3, 5)]),
        ({"byte_fallback": True}, ["a", "<0xC3>", "<0xA9>"], "aé", [(0, 1), (1, 2), (1, 2)]),
        ({"byte_level": True}, ["a", "Ã", "©", "Ġb"], "aé b", [(0, 1), (1, 2), (1, 2), (2, 4)]),
    ],
)
def test_running_text(settings: dict, tokens: list[str], text: str, spans: list[tuple[int, int]]):
    separator = " " if "continuing" in settings else ""
    spelling = Spelling(**{**vars(PLAIN), "separator": separator, **settings})
    assert characters(*spelling.joined([(token, False) for token in tokens])) == (text, spans)

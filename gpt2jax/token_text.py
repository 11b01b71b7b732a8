r"""What tokens stand for as text: the spelling of a vocabulary undone, and bytes shown where they are no text.

Byte-level vocabularies write bytes as characters (Radford et al. 2019), SentencePiece writes a space as `▁` and single
bytes as `<0xE2>`, WordPiece marks what goes on within a word by `##`, the first GPT the end of a word by `</w>`. Which
of these a tokenizer does is told by what cuts its texts (normalizer, pre-tokenizer, model), not by its decoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers


def _byte_alphabet() -> dict[str, int]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_alphabet()
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
# Only bytes from 80 on are ever no text, and 5c is how a backslash is written that would read as an escape.
_ESCAPE = re.compile(r"\\x(5c|[89a-f][0-9a-f])")
_LIKE_ESCAPE = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_NO_TEXT = re.compile("[\udc80-\udcff]")

Span = tuple[int, int]


def displayed(raw: bytes) -> str:
    r"""A token's bytes for display: UTF-8 text, with `\xNN` for what is none.

    A backslash of the text itself that would read as such an escape is written `\x5c`, so that `undisplayed` is the
    exact inverse and different bytes never look alike.
    """
    text = raw.decode("utf-8", "surrogateescape")
    if text.isascii() and "\\" not in text:
        return text
    text = _LIKE_ESCAPE.sub(r"\\x5c", text)
    return _NO_TEXT.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


def undisplayed(string: str) -> bytes:
    """The bytes that `displayed` shows as `string`."""
    text = _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)) if found[1] != "5c" else "\\", string)
    return text.encode("utf-8", "surrogateescape")


def text_of_strings(strings: Iterable[str]) -> str:
    r"""The running text of display strings, as tables keep them: escapes undone, cut characters whole again.

    Bytes that are no UTF-8 even together become U+FFFD. Exact for tokens that carry their own spaces (byte-level,
    SentencePiece); the spaces between words of other vocabularies are not in the strings.

    Example:
        >>> text_of_strings(["Hi ", r"\\xf0\\x9f", r"\\xa4\\x97"])
        'Hi 🤗'
    """
    return b"".join(map(undisplayed, strings)).decode("utf-8", "replace")


@dataclass(frozen=True)
class Spelling:
    """How a tokenizer's vocabulary writes text.

    Args:
        byte_level: characters stand for bytes.
        byte_fallback: tokens such as `<0xE2>` stand for single bytes.
        space: the character that stands for a space, such as `▁`.
        leading: a space is put in front of a text and stands for none.
        separator: what is dropped between words, and so belongs between tokens.
        continuing: the mark of tokens that go on within a word (`##`).
        ending: the mark of tokens that end a word (`</w>`).
    """

    byte_level: bool
    byte_fallback: bool
    space: str | None
    leading: bool
    separator: str
    continuing: str
    ending: str

    @classmethod
    def of(cls, library: tokenizers.Tokenizer) -> Spelling:
        """The spelling of a tokenizer of the library."""
        normalizers, cutters = list(parts(library.normalizer)), list(parts(library.pre_tokenizer))
        spaces = [part["replacement"] for part in cutters if part["type"] == "Metaspace"]
        spaces += [part["content"] for part in normalizers if _replaces_space(part)]
        model = library.model
        return cls(
            byte_level=any(part["type"] == "ByteLevel" for part in (*normalizers, *cutters)),
            byte_fallback=bool(getattr(model, "byte_fallback", False)),
            space=spaces[0] if spaces else None,
            leading=any(part["type"] == "Metaspace" and part.get("prepend_scheme") != "never" for part in cutters)
            or any(part["type"] == "Prepend" for part in normalizers),
            separator=next((found for part in cutters if (found := _dropped(part)) is not None), ""),
            continuing=getattr(model, "continuing_subword_prefix", None) or "",
            ending=getattr(model, "end_of_word_suffix", None) or "",
        )

    def raw(self, token: str) -> bytes:
        """The bytes of a token of the vocabulary (added tokens are plain text)."""
        if self.byte_level and all(character in BYTES for character in token):
            return bytes(BYTES[character] for character in token)
        if self.byte_fallback and (byte := _FALLBACK.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        return (token if self.space is None else token.replace(self.space, " ")).encode("utf-8")

    def joined(self, tokens: Sequence[tuple[str, bool]]) -> tuple[bytes, list[Span]]:
        """The running text of tokens, each with whether it is an added one, and the bytes of each therein."""
        text, spans, between = bytearray(), [], b""
        for place, (token, added) in enumerate(tokens):
            goes_on = bool(self.continuing) and not added and token.startswith(self.continuing)
            ends = bool(self.ending) and not added and token.endswith(self.ending)
            token = token.removeprefix(self.continuing) if goes_on else token
            token = token.removesuffix(self.ending) if ends else token
            raw = token.encode("utf-8") if added else self.raw(token)
            if place == 0 and self.leading and not added:
                raw = raw.removeprefix(b" ")
            text += b"" if place == 0 or goes_on else between
            spans.append((len(text), len(text) + len(raw)))
            text += raw
            between = b" " if ends else b"" if self.ending else self.separator.encode("utf-8")
        return bytes(text), spans


def parts(component: Any) -> Iterator[dict[str, Any]]:
    """The settings of a normalizer or pre-tokenizer of the library, and of all that a sequence of them holds."""
    if component is not None:
        yield from _parts(json.loads(component.__getstate__()))


def _parts(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if state["type"] != "Sequence":
        yield state
    for name in ("normalizers", "pretokenizers"):
        for inner in state.get(name, ()):
            yield from _parts(inner)


def _replaces_space(normalizer: dict[str, Any]) -> bool:
    return normalizer["type"] == "Replace" and normalizer["pattern"] == {"String": " "} and bool(normalizer["content"])


def _dropped(cutter: dict[str, Any]) -> str | None:
    """What a pre-tokenizer drops between the pieces that it makes."""
    if cutter["type"] in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        return " "
    if cutter["type"] == "CharDelimiterSplit":
        return cutter["delimiter"]
    if cutter["type"] == "Split" and cutter["behavior"] == "Removed" and not cutter.get("invert"):
        return cutter["pattern"].get("String", " ")
    return None


def characters(raw: bytes, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """Text and spans of characters from bytes and spans of bytes.

    Bytes that are no UTF-8 become U+FFFD. A token that holds a part of a character has the whole character.
    """
    text, holders = [], []  # characters; for each byte, the place of its character
    for character, size in _sized(raw):
        holders += [len(text)] * size
        text.append(character)
    holders.append(len(text))
    return "".join(text), [
        (holders[start], holders[stop - 1] + 1 if stop > start else holders[start]) for start, stop in spans
    ]


def _sized(raw: bytes) -> Iterator[tuple[str, int]]:
    """Each character with the bytes that it takes."""
    place = 0
    while place < len(raw):
        try:
            sound, wrong = raw[place:].decode("utf-8"), 0
        except UnicodeDecodeError as failure:
            sound, wrong = raw[place : place + failure.start].decode("utf-8"), failure.end - failure.start
        for character in sound:
            yield character, len(character.encode("utf-8"))
        if wrong:
            yield "\ufffd", wrong
        place += len(sound.encode("utf-8")) + wrong

"""Text to token ids and back, through the library `tokenizers`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gpt2jax.config import GPT2Config
from gpt2jax.errors import TokenizerError
from gpt2jax.json_file import parse_json, read_bytes

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_END_OF_TEXT = "<|endoftext|>"


def _byte_alphabet() -> dict[str, int]:
    """How a byte-level vocabulary writes bytes as characters (Radford et al. 2019), undone."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()


class Tokenizer:
    """A model's tokenizer, immutable: equal to another exactly if read from the same files for the same vocabulary.

    Nothing is ever added to a text (no beginning-of-text token, no padding) and nothing is cut from it, whatever
    `tokenizer.json` says about that; special tokens written out in a text are recognised.

    Example:
        >>> tokenizer = gpt2jax.load("gpt2").tokenizer                           # doctest: +SKIP
        >>> tokenizer.strings(tokenizer.encode("When Mary"))                     # doctest: +SKIP
        ['When', ' Mary']
    """

    def __init__(self, library: tokenizers.Tokenizer, files: dict[str, bytes], d_vocab: int, bos_token_id: int | None):
        """Wrap a tokenizer of the library; `Tokenizer.read` is the usual way.

        Args:
            library: the tokenizer itself.
            files: content by file name, for `save`.
            d_vocab: the model's vocabulary size; ids from it on are refused.
            bos_token_id: the beginning-of-text token, if there is one.
        """
        self._library = library
        self._files = files
        self._byte_level = isinstance(library.decoder, decoders.ByteLevel)
        self._added = library.get_added_tokens_decoder()
        # The library drops such bytes from a text without a word.
        self._lacking = {
            byte for character, byte in _BYTES.items() if self._byte_level and library.token_to_id(character) is None
        }
        content = [(name, hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)]
        self._identity = (tuple(content), d_vocab, bos_token_id)
        self.d_vocab = d_vocab
        self.bos_token_id = bos_token_id

    @classmethod
    def read(cls, folder: str | Path, config: GPT2Config) -> Tokenizer | None:
        """Read `tokenizer.json`, or `vocab.json` with `merges.txt`.

        Args:
            folder: a Hugging Face GPT-2 folder.
            config: the model's configuration, for its vocabulary size and beginning-of-text token.

        Returns:
            The tokenizer, or `None` for a folder that has none.

        Raises:
            TokenizerError: tokenizer files that are incomplete or damaged.
        """
        folder = Path(folder)
        present = {name for name in TOKENIZER_FILES if (folder / name).exists()}
        files = {name: read_bytes(folder / name, TokenizerError, "fetch it again") for name in sorted(present)}
        if "tokenizer.json" in files:
            library = _from_tokenizer_json(files["tokenizer.json"], folder / "tokenizer.json")
        elif {"vocab.json", "merges.txt"} <= present:
            library = _from_vocabulary(folder, files)
        elif present & {"vocab.json", "merges.txt"}:
            lacking = "merges.txt" if "vocab.json" in present else "vocab.json"
            raise TokenizerError(f"{folder}: has no tokenizer.json and lacks {lacking} beside its pair; fetch it too")
        else:
            return None
        bos = config.bos_token_id if config.bos_token_id is not None else library.token_to_id(_END_OF_TEXT)
        return cls(library, files, config.d_vocab, bos)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text.

        Raises:
            TokenizerError: the text has characters without a token, or tokens outside the model's vocabulary.
        """
        return self._encoding(text).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The token ids of a text, and for each the range of characters that it stands for.

        A leading space belongs to its token (`text[start:end] == " Mary"`). Tokens that hold parts of one character
        have that whole character's range each.

        Raises:
            TokenizerError: see `encode`.
        """
        encoding = self._encoding(text)
        return encoding.ids, [(start, end) for start, end in encoding.offsets]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens included; bytes that are no UTF-8 become U+FFFD.

        Raises:
            TokenizerError: an id that has no token.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if i < 0 or self._library.id_to_token(i) is None:
                raise TokenizerError(f"token id {i}: the tokenizer has no such token; give ids that it made")
        return self._library.decode(ids, skip_special_tokens=False)

    def strings(self, ids: Iterable[int]) -> list[str]:
        r"""Each token's own text, for display: `[" Mary", "\xe2\x80", "\x99"]`.

        Byte-level tokens that are no complete UTF-8 show the bytes concerned as `\xNN`, so that no two of GPT-2's
        tokens look alike. An id without a token (vocabularies may be padded) shows as `[50300]`.
        """
        return [self._string(int(i)) for i in ids]

    def token_id(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else `None`."""
        try:
            ids = self.encode(text)
        except TokenizerError:
            return None
        return ids[0] if len(ids) == 1 else None

    def save(self, folder: str | Path) -> None:
        """Write the files that were read, byte for byte, into a folder that exists."""
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)

    def _encoding(self, text: str) -> tokenizers.Encoding:
        try:
            encoding = self._library.encode(text)
        except (UnicodeEncodeError, TypeError) as failure:
            raise TokenizerError(f"{_excerpt(text)}: not a text that UTF-8 can write; correct it") from failure
        if encoding.ids and max(encoding.ids) >= self.d_vocab:
            beyond = max(encoding.ids)
            shown = f"{_excerpt(text)}: holds {self._string(beyond)!r}, token id {beyond}"
            raise TokenizerError(
                f"{shown}, but the model's vocabulary has {self.d_vocab}; use the model's own tokenizer"
            )
        if self._lacking:
            self._check_nothing_lost(text, encoding)
        return encoding

    def _check_nothing_lost(self, text: str, encoding: tokenizers.Encoding) -> None:
        written = sum(len(self._bytes(i, token)) for i, token in zip(encoding.ids, encoding.tokens, strict=True))
        if written >= len(text.encode()):
            return
        added = "|".join(re.escape(token.content) for token in self._added.values()) or "(?!)"
        plain = re.sub(added, lambda found: "\0" * len(found[0]), text)
        for place, character in enumerate(text):
            if character == plain[place] and self._lacking & set(character.encode()):
                where = f"{_excerpt(text)} character {place + 1}"
                raise TokenizerError(f"{where}: the tokenizer has no token for {character!r}; leave it out")

    def _string(self, i: int) -> str:
        token = self._library.id_to_token(i) if i >= 0 else None
        if token is None:
            return f"[{i}]"
        return self._bytes(i, token).decode("utf-8", "backslashreplace") if self._byte_level else token

    def _bytes(self, i: int, token: str) -> bytes:
        # Added tokens are plain text, as are those that break the byte alphabet.
        if i in self._added or any(character not in _BYTES for character in token):
            return token.encode("utf-8")
        return bytes(_BYTES[character] for character in token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def _from_tokenizer_json(content: bytes, where: Path) -> tokenizers.Tokenizer:
    def build() -> tokenizers.Tokenizer:
        library = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        library.post_processor = None
        library.no_padding()
        library.no_truncation()
        return library

    return _built(build, where)


def _from_vocabulary(folder: Path, files: dict[str, bytes]) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE from its vocabulary and merges."""
    vocabulary = parse_json(files["vocab.json"], folder / "vocab.json", TokenizerError)
    settings = folder / "tokenizer_config.json"
    prefix = parse_json(files.get(settings.name, b"{}"), settings, TokenizerError).get("add_prefix_space", False)

    def build() -> tokenizers.Tokenizer:
        lines = files["merges.txt"].decode("utf-8").replace("\r\n", "\n").split("\n")
        merges = lines[1:] if lines[0].startswith("#version") else lines
        pairs = [(left, right) for left, right in (line.split(" ") for line in merges if line)]
        library = tokenizers.Tokenizer(models.BPE(vocabulary, pairs))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(prefix))
        library.decoder = decoders.ByteLevel()
        if _END_OF_TEXT in vocabulary:
            library.add_special_tokens([AddedToken(_END_OF_TEXT, normalized=False, special=True)])
        return library

    return _built(build, folder / "merges.txt")


def _built(build: Callable[[], tokenizers.Tokenizer], where: Path) -> tokenizers.Tokenizer:
    try:
        return build()
    except Exception as failure:  # the library raises bare Exception
        reason = " ".join(str(failure).split()) or type(failure).__name__
        raise TokenizerError(f"{where}: no tokenizer that can be read ({reason}); fetch it again") from failure


def _excerpt(text: str) -> str:
    shown = text if len(text) <= 30 else f"{text[:29]}…"
    return f"text {shown!r}"

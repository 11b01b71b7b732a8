"""Text to token ids and back, through the library `tokenizers`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import SupportsInt

import tokenizers

from gpt2jax.config import GPT2Config
from gpt2jax.errors import TokenizerError
from gpt2jax.token_text import Span, Spelling, characters, displayed
from gpt2jax.tokenizer_files import read_files

_LOG = logging.getLogger("gpt2jax")


class Tokenizer:
    """A model's tokenizer, immutable: equal to another exactly if read from the same files for the same vocabulary.

    Nothing is ever added to a text (no beginning-of-text token, no padding) and nothing is cut from it, whatever
    `tokenizer.json` says about that; special tokens written out in a text are recognised. `bos_token_id` is the
    beginning-of-text token that the tokenizer declares, else config.json's, else that of the tokenizer's class; where
    there is none that the model has, `bos_lacking` says what is the matter. `notes` are what is worth knowing of its
    files; `unread` says why a tokenizer that is there cannot be read, and is empty otherwise.

    Example:
        >>> tokenizer = gpt2jax.load("gpt2").tokenizer                           # doctest: +SKIP
        >>> tokenizer.strings(tokenizer.encode("When Mary"))                     # doctest: +SKIP
        ['When', ' Mary']
    """

    unread = ""

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        files: dict[str, bytes],
        d_vocab: int,
        bos_token_id: int | None,
        *,
        bos_lacking: str = "",
        notes: tuple[str, ...] = (),
        lost: int | None = None,
    ):
        """Wrap a tokenizer of the library; `Tokenizer.read` is the usual way.

        Args:
            library: the tokenizer itself.
            files: content by file name, for `save`.
            d_vocab: the model's vocabulary size; ids from it on are refused.
            bos_token_id: the beginning-of-text token, if there is one.
            bos_lacking: why there is none.
            notes: what is worth saying of the files.
            lost: the id under which the library reports characters that have no token.
        """
        self._library = library
        self._files = files
        self._spelling = Spelling.of(library)
        self._added = library.get_added_tokens_decoder()
        self._lost = lost
        self._shown: dict[int, str] = {}
        content = [(name, hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)]
        self._identity = (tuple(content), d_vocab, bos_token_id)
        self.d_vocab = d_vocab
        self.bos_token_id = bos_token_id
        self.bos_lacking = bos_lacking
        self.notes = notes

    @classmethod
    def read(cls, folder: str | Path, config: GPT2Config) -> Tokenizer | None:
        """Read `tokenizer.json`, or `vocab.json` with `merges.txt`, and the settings beside them.

        Where `tokenizer.json` and what stands beside it differ, a line of the log "gpt2jax" says which counts.

        Args:
            folder: a Hugging Face GPT-2 folder.
            config: the model's configuration, for its vocabulary size and beginning-of-text token.

        Returns:
            The tokenizer; an `UnreadTokenizer` for one of another kind (`vocab.txt`, SentencePiece); `None` for a
            folder that has none.

        Raises:
            TokenizerError: tokenizer files that are incomplete, damaged, or contradict each other.
        """
        found = read_files(Path(folder), config)
        if found is None:
            return None
        if found.library is None or found.beginning is None:
            return UnreadTokenizer(found.unread, found.files, config)
        for note in found.notes:
            _LOG.warning("%s", note)
        first = found.beginning
        return cls(
            found.library,
            found.files,
            config.d_vocab,
            first.id,
            bos_lacking=first.why,
            notes=found.notes,
            lost=found.lost,
        )

    def encode(self, text: str) -> list[int]:
        """The token ids of a text.

        Raises:
            TokenizerError: the text has characters without a token, or tokens outside the model's vocabulary.
        """
        return self._encoding(text).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Span]]:
        """The token ids of a text, and for each the range of characters that it stands for.

        A leading space belongs to its token (`text[start:end] == " Mary"`). Tokens that hold parts of one character
        have that whole character's range each. Ranges are of the text as given, whatever the tokenizer normalizes.

        Raises:
            TokenizerError: see `encode`.
        """
        encoding = self._encoding(text)
        return encoding.ids, [(start, end) for start, end in encoding.offsets]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The running text of token ids, special tokens included; bytes that are no UTF-8 become U+FFFD.

        Exactly what the tokens stand for, with no clean-up of spaces; between tokens that carry no spaces of their own
        (words, WordPiece) stands what the tokenizer dropped there. The text itself comes back unless the tokenizer
        normalizes it or treats several texts alike.

        Raises:
            TokenizerError: an id that has no token.
        """
        return self.decode_with_offsets(ids)[0]

    def decode_with_offsets(self, ids: Iterable[SupportsInt]) -> tuple[str, list[Span]]:
        """`decode`, and for each token the range of characters of that text which it stands for.

        Raises:
            TokenizerError: an id that has no token.
        """
        tokens = []
        for i in map(int, ids):
            token = self._token(i)
            if token is None:
                raise TokenizerError(f"token id {i}: the tokenizer has no such token; give ids that it made")
            tokens.append((token, i in self._added))
        return characters(*self._spelling.joined(tokens))

    def strings(self, ids: Iterable[SupportsInt]) -> list[str]:
        r"""Each token's own text, for display: `[" Mary", "\xe2\x80", "\x99"]`.

        Tokens that are no complete UTF-8 show the bytes concerned as `\xNN`, so that no two of GPT-2's tokens look
        alike (`gpt2jax.token_text` undoes it); the marks `##` and `</w>` stay. An id without a token (vocabularies may
        be padded) shows as `[50300]`.
        """
        # Prompts of one vocabulary show the same tokens over and over.
        shown = self._shown
        return [shown[i] if i in shown else shown.setdefault(i, self._string(i)) for i in map(int, ids)]

    def token_id(self, text: str) -> int | None:
        """The id of a text that is exactly one token, else `None`."""
        try:
            ids = self.encode(text)
        except TokenizerError:
            return None
        return ids[0] if len(ids) == 1 else None

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that have no token of their own and become the one of all unknown words, in order.

        Raises:
            TokenizerError: see `encode`.
        """
        name = getattr(self._library.model, "unk_token", None)
        unknown = None if name is None else self._library.token_to_id(name)
        if unknown is None or unknown == self._lost:
            return []
        ids, spans = self.encode_with_offsets(text)
        words = (text[start:end].strip() for i, (start, end) in zip(ids, spans, strict=True) if i == unknown)
        return [word for word in words if word != name]

    def save(self, folder: str | Path) -> None:
        """Write the files that were read, byte for byte, into a folder that exists."""
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)

    def _encoding(self, text: str) -> tokenizers.Encoding:
        try:
            encoding = self._library.encode(text)
        except (UnicodeEncodeError, TypeError) as failure:
            raise TokenizerError(f"{_excerpt(text)}: not a text that UTF-8 can write; correct it") from failure
        except BaseException as failure:  # see tokenizer_files.built; most often a word without a token
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                raise
            reason = " ".join(str(failure).split())
            raise TokenizerError(f"{_excerpt(text)}: the tokenizer fails ({reason}); leave out such words") from failure
        if self._lost is not None and self._lost in encoding.ids:
            place = encoding.offsets[encoding.ids.index(self._lost)][0]
            shown = f"{_excerpt(text)} character {place + 1}"
            raise TokenizerError(f"{shown}: the tokenizer has no token for {text[place]!r}; leave it out")
        if encoding.ids and max(encoding.ids) >= self.d_vocab:
            beyond = max(encoding.ids)
            shown = f"{_excerpt(text)}: holds {self._string(beyond)!r}, token id {beyond}"
            raise TokenizerError(
                f"{shown}, but the model's vocabulary has {self.d_vocab}; use the model's own tokenizer"
            )
        return encoding

    def _token(self, i: int) -> str | None:
        return self._library.id_to_token(i) if 0 <= i < 1 << 32 and i != self._lost else None

    def _string(self, i: int) -> str:
        token = self._token(i)
        if token is None:
            return f"[{i}]"
        # Added tokens are plain text.
        return displayed(token.encode("utf-8") if i in self._added else self._spelling.raw(token))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


class UnreadTokenizer(Tokenizer):
    """A tokenizer that is there but of a kind that is not read: prompts given as ids work, texts say what to do."""

    def __init__(self, unread: str, files: dict[str, bytes], config: GPT2Config):
        """Hold the files, for `save`; `unread` is what every use of a text says."""
        super().__init__(tokenizers.Tokenizer(tokenizers.models.BPE()), files, config.d_vocab, config.bos_token_id)
        self.unread = unread

    def decode_with_offsets(self, ids: Iterable[SupportsInt]) -> tuple[str, list[Span]]:  # noqa: ARG002
        """Raise TokenizerError."""
        raise TokenizerError(self.unread)

    def strings(self, ids: Iterable[SupportsInt]) -> list[str]:
        """The ids themselves."""
        return [str(int(i)) for i in ids]

    def token_id(self, text: str) -> int | None:  # noqa: ARG002
        """Raise TokenizerError."""
        raise TokenizerError(self.unread)

    def _encoding(self, text: str) -> tokenizers.Encoding:  # noqa: ARG002
        raise TokenizerError(self.unread)


def _excerpt(text: str) -> str:
    shown = text if len(text) <= 30 else f"{text[:29]}…"
    return f"text {shown!r}"

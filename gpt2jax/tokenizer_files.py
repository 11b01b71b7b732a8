"""From a folder's files to a tokenizer of the library `tokenizers`, with nothing of them dropped unsaid.

What cuts a text is `tokenizer.json`'s, or GPT-2's own byte-level BPE for `vocab.json` with `merges.txt`. The settings
beside it are followed as transformers does (`gpt2jax.tokenizer_settings`), what stands in the way of a measurement is
taken out: tokens put around a text, padding, truncation, merges dropped at random.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
from tokenizers import models

from gpt2jax.config import GPT2Config
from gpt2jax.errors import TokenizerError
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import CONFIG_FILE
from gpt2jax.token_text import BYTES, parts
from gpt2jax.tokenizer_settings import (
    ADDED_FILE,
    BERT_CLASS,
    GPT2_CLASS,
    NAMES_FILE,
    SETTINGS_FILE,
    Beginning,
    Declared,
    Settings,
    beginning,
    listed_tokens,
)

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILES = ("vocab.json", "merges.txt")
# Vocabularies of other kinds, which are not read: WordPiece's, SentencePiece's, and the names of GPT-2's first release.
OTHER_FILES = (
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "tiktoken.model",
    "encoder.json",
    "vocab.bpe",
)
TOKENIZER_FILES = (TOKENIZER_FILE, *VOCABULARY_FILES, SETTINGS_FILE, NAMES_FILE, ADDED_FILE, *OTHER_FILES)
_LARGEST = 1 << 30  # bytes; the largest vocabularies known take some 30 MB
_BERT_FLAGS = (
    ("do_lower_case", "lowercase", True),
    ("strip_accents", "strip_accents", None),
    ("tokenize_chinese_chars", "handle_chinese_chars", True),
)
# The name that no text can hold under which characters without a token are found.
_LOST = "\0lost\0"
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What a folder holds: a tokenizer of the library, or why there is none that can be read."""

    files: dict[str, bytes]
    library: tokenizers.Tokenizer | None = None
    lost: int | None = None
    beginning: Beginning | None = None
    notes: tuple[str, ...] = ()
    unread: str = ""


def read_files(folder: Path, config: GPT2Config) -> Found | None:
    """Read a folder's tokenizer; None where it has none.

    `lost` is the id that stands for characters without a token, where the library would drop them without a word.

    Raises:
        TokenizerError: tokenizer files that are incomplete, damaged, or of a kind that is not read.
    """
    files = {name: _content(folder / name) for name in TOKENIZER_FILES if os.path.lexists(folder / name)}
    if TOKENIZER_FILE in files or files.keys() & set(VOCABULARY_FILES):
        where = folder / CONFIG_FILE
        model = read_bytes(where, TokenizerError, "fetch it too") if where.exists() else b"{}"
        return _found(folder, files, Settings.read(folder, files, model), config)
    others = [name for name in OTHER_FILES if name in files]
    if not others:
        return None
    shown = f"{folder}: the tokenizer is {' and '.join(others)} alone, which is not read here"
    return Found(files, unread=f"{shown}; {way_out(folder)}")


def way_out(folder: Path | str) -> str:
    """How other tokenizers become a `tokenizer.json`."""
    call = f'AutoTokenizer.from_pretrained("{folder}").save_pretrained("{folder}")'
    return f"with transformers, {call} writes tokenizer.json of it"


def _content(path: Path) -> bytes:
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise TokenizerError(f"{path}: {path.stat().st_size / 1e9:.1f} GB, too large for a tokenizer; fetch it again")
    return read_bytes(path, TokenizerError, "fetch it again")


def _found(folder: Path, files: dict[str, bytes], settings: Settings, config: GPT2Config) -> Found:
    notes: list[str] = []
    if TOKENIZER_FILE in files:
        where = folder / TOKENIZER_FILE
        spec = parse_json(files[TOKENIZER_FILE], where, TokenizerError)
        listed = listed_tokens(spec.get("added_tokens") or [], str(where))
        notes += _follow(spec, settings, where)
        library = built(lambda: tokenizers.Tokenizer.from_str(json.dumps(spec)), where)
    else:
        where, listed = folder / VOCABULARY_FILES[1], []
        library = _from_vocabulary(folder, files, settings)
    _add_tokens(library, settings, listed)
    notes += _added_around(library, settings, where)
    first = beginning(settings, library, config)
    lost = built(lambda: _keep_lost(library), where)
    return Found(files, library, lost, first, tuple(notes + ([first.note] if first.note else [])))


def _follow(spec: dict[str, Any], settings: Settings, where: Path) -> list[str]:
    """Bring a tokenizer.json into line with the settings beside it; what is worth saying of that."""
    model, cutter, normalizer = (_part(spec, name) for name in ("model", "pre_tokenizer", "normalizer"))
    notes = []
    spec.update(truncation=None, padding=None, added_tokens=[])
    if model.get("dropout"):
        model["dropout"] = None
        notes.append(f"{where}: drops merges at random (dropout), which is off here")
    notes += _follow_prefix(cutter, settings, where)
    if settings.klass == BERT_CLASS and normalizer.get("type") == "BertNormalizer":
        wanted = {theirs: settings.flag(ours, default) for ours, theirs, default in _BERT_FLAGS}
        differing = [f"{name} {value}" for name, value in wanted.items() if normalizer.get(name) != value]
        normalizer.update(wanted)
        if differing:
            notes.append(f"{where}: {SETTINGS_FILE}, or {BERT_CLASS}'s default, counts: {', '.join(differing)}")
    return notes


def _follow_prefix(cutter: dict[str, Any], settings: Settings, where: Path) -> list[str]:
    """`add_prefix_space`: GPT-2's class takes a missing setting as false, others leave it to tokenizer.json."""
    prefix = settings.flag("add_prefix_space", None)
    if cutter.get("type") == "ByteLevel" and settings.klass in (None, GPT2_CLASS):
        before, cutter["add_prefix_space"] = bool(cutter.get("add_prefix_space")), bool(prefix)
        if before == bool(prefix):
            return []
        source = f"{SETTINGS_FILE}'s" if prefix is not None else f"{GPT2_CLASS}'s default"
        return [f"{where}: add_prefix_space is {before} there, but {source}, {bool(prefix)}, counts"]
    if prefix is None or all(each == prefix for each in _prefixes(cutter)):
        return []
    return [f"{where}: add_prefix_space is {prefix} in {SETTINGS_FILE}, but what stands here counts"]


def _part(spec: dict[str, Any], name: str) -> dict[str, Any]:
    part = spec.get(name)
    return part if isinstance(part, dict) else {}


def _prefixes(cutter: Mapping[str, Any]) -> list[bool]:
    """Whether a space is put in front of a text, as each part of a pre-tokenizer has it."""
    inner = cutter.get("pretokenizers") or []
    found = [each for part in inner if isinstance(part, dict) for each in _prefixes(part)]
    if "add_prefix_space" in cutter:
        found.append(cutter["add_prefix_space"])
    if cutter.get("type") == "Metaspace":
        found.append(cutter.get("prepend_scheme", "always") != "never")
    return found


def _from_vocabulary(folder: Path, files: Mapping[str, bytes], settings: Settings) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE from its vocabulary and merges."""
    lacking = [name for name in VOCABULARY_FILES if name not in files]
    if lacking:
        raise TokenizerError(f"{folder}: has no tokenizer.json and lacks {lacking[0]} beside its pair; fetch it too")
    if settings.klass not in (None, GPT2_CLASS):
        shown = f"{folder}: tokenizer_class is {settings.klass}, whose vocab.json and merges.txt are not read here"
        raise TokenizerError(f"{shown}; {way_out(folder)}")
    vocabulary = parse_json(files["vocab.json"], folder / "vocab.json", TokenizerError)
    where = folder / "merges.txt"
    pairs = built(lambda: _pairs(files["merges.txt"]), where)
    ends = "Ġ" not in vocabulary and any(right.endswith("</w>") for _, right in pairs)
    strange = next((part for pair in pairs for part in pair if any(each not in BYTES for each in part)), None)
    if ends or strange is not None:
        what = "mark the end of a word by </w>" if strange is None else f"hold {strange!r}, which is no bytes"
        raise TokenizerError(f"{where}: the merges {what}, unlike GPT-2's byte-level BPE; {way_out(folder)}")
    prefix = bool(settings.flag("add_prefix_space", False))

    def build() -> tokenizers.Tokenizer:
        library = tokenizers.Tokenizer(models.BPE(vocabulary, pairs))
        library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        library.decoder = tokenizers.decoders.ByteLevel()
        return library

    return built(build, where)


def _pairs(content: bytes) -> list[tuple[str, str]]:
    lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    merges = lines[1:] if lines[0].startswith("#version") else lines
    return [(left, right) for left, right in (line.split(" ") for line in merges if line)]


def _add_tokens(library: tokenizers.Tokenizer, settings: Settings, listed: list[Declared]) -> None:
    """Give the library all tokens that stand beside its vocabulary, under the ids that the files give them.

    Raises:
        TokenizerError: an id that the token would not get, in transformers neither.
    """
    declared = settings.added_tokens(listed)
    texts = {each.token.content for each in declared}
    defaults = set(settings.defaults(library).values()) - texts
    library.add_tokens([each.token for each in declared])
    library.add_tokens([tokenizers.AddedToken(text, special=True) for text in sorted(defaults)])
    library.encode_special_tokens = bool(settings.flag("split_special_tokens", False))
    for each in declared:
        found = library.token_to_id(each.token.content)
        if each.id is not None and found != each.id:
            shown = f"{each.where}: {each.token.content!r} has the token id {each.id}, but {found} is what it gets"
            raise TokenizerError(f"{shown} after the vocabulary and the tokens before it; correct one of them")


def _added_around(library: tokenizers.Tokenizer, settings: Settings, where: Path) -> list[str]:
    """Take out what the post-processor puts around a text, and say so."""
    around = built(lambda: library.encode("").tokens, where)
    library.post_processor = None
    if not around and where.name != TOKENIZER_FILE and settings.flag("add_bos_token", False):
        around = ["the beginning-of-text token"]
        where = where.with_name(SETTINGS_FILE)
    if not around:
        return []
    return [f"{where}: puts {' and '.join(around)} around a text; nothing is put there here unless asked for"]


def _keep_lost(library: tokenizers.Tokenizer) -> int | None:
    """Let BPE, which drops characters without a token unsaid, give them an id instead, and return it."""
    model = library.model
    if not isinstance(model, models.BPE) or model.unk_token is not None:
        return None
    bytes_only = any(
        part["type"] == "ByteLevel" for part in (*parts(library.normalizer), *parts(library.pre_tokenizer))
    )
    if bytes_only and all(library.token_to_id(character) is not None for character in BYTES):
        return None
    state = json.loads(model.__getstate__())
    lost = max((*state["vocab"].values(), *library.get_added_tokens_decoder(), -1)) + 1
    state["vocab"][_LOST] = lost
    state |= {"unk_token": _LOST, "fuse_unk": False}
    marked = models.BPE()
    marked.__setstate__(json.dumps(state).encode())
    library.model = marked
    return lost


def built(build: Callable[[], T], where: Path) -> T:
    """What the library builds of a file.

    Raises:
        TokenizerError: it cannot.
    """
    try:
        return build()
    except BaseException as failure:  # the library raises bare Exception, and BaseException where it panics
        if isinstance(failure, KeyboardInterrupt | SystemExit | TokenizerError):
            raise
        reason = " ".join(str(failure).split()) or type(failure).__name__
        raise TokenizerError(f"{where}: no tokenizer that can be read ({reason}); fetch it again") from failure

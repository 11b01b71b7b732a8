"""What stands beside a vocabulary: added and special tokens, the class that is to read it, the beginning of a text.

`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` are followed as transformers 5 follows them:
with an `added_tokens_decoder` the first of these files alone, else the named tokens of the second before those of the
first, and for the flags of a token `tokenizer.json` before `added_tokens.json`. What cannot be understood is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models

from gpt2jax.config import GPT2Config
from gpt2jax.errors import TokenizerError
from gpt2jax.json_file import parse_json
from gpt2jax.layout import CONFIG_FILE

SETTINGS_FILE = "tokenizer_config.json"
NAMES_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
GPT2_CLASS = "GPT2Tokenizer"
BERT_CLASS = "BertTokenizer"
_END_OF_TEXT = "<|endoftext|>"
# What a class declares where its files are silent; it counts only where the vocabulary has it.
_DEFAULTS: dict[str, dict[str, str]] = {
    GPT2_CLASS: {"bos_token": _END_OF_TEXT, "eos_token": _END_OF_TEXT, "unk_token": _END_OF_TEXT},
    BERT_CLASS: {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
}
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Declared:
    """An added token and the id that its file gives it, if it does."""

    token: AddedToken
    id: int | None
    where: str


@dataclass(frozen=True)
class Settings:
    """The files beside a vocabulary, parsed; `klass` is the tokenizer's class without "Fast", None if none is named."""

    folder: Path
    config: Mapping[str, Any]
    names: Mapping[str, Any]
    added: Mapping[str, Any]
    klass: str | None
    model_bos: Any

    @classmethod
    def read(cls, folder: Path, files: Mapping[str, bytes], model_config: bytes) -> Settings:
        """The settings of a folder; `model_config` is the content of its config.json.

        Raises:
            TokenizerError: a file that is no JSON object.
        """
        config, names, added = (
            parse_json(files.get(name, b"{}"), folder / name, TokenizerError)
            for name in (SETTINGS_FILE, NAMES_FILE, ADDED_FILE)
        )
        model = parse_json(model_config, folder / CONFIG_FILE, TokenizerError)
        klass = config.get("tokenizer_class") or model.get("tokenizer_class")
        if klass is not None and not isinstance(klass, str):
            raise TokenizerError(f"{folder / SETTINGS_FILE}: tokenizer_class is {klass!r}, expected a name; correct it")
        klass = None if klass is None else klass.removesuffix("Fast")
        return cls(folder, config, names, added, klass, model.get("bos_token_id"))

    def flag(self, name: str, default: bool | None) -> bool | None:
        """A setting that is true or false, or `default`.

        Raises:
            TokenizerError: it is something else.
        """
        value = self.config.get(name)
        if value is not None and not isinstance(value, bool):
            shown = f"{self.folder / SETTINGS_FILE}: {name} is {value!r}"
            raise TokenizerError(f"{shown}, expected true or false; correct it")
        return default if value is None else value

    @property
    def decoder(self) -> Mapping[str, Any] | None:
        """`added_tokens_decoder`: tokens by id."""
        value = self.config.get("added_tokens_decoder")
        return None if value is None else _object(value, f"{self.folder / SETTINGS_FILE}: added_tokens_decoder")

    def named(self) -> dict[str, Declared]:
        """The special tokens by their names: `bos_token`, `unk_token`, …, others that end so, and lists of more."""
        files = [(self.folder / SETTINGS_FILE, self.config)]
        if self.decoder is None:
            files.append((self.folder / NAMES_FILE, self.names))
        found: dict[str, Declared] = {}
        for file, content in files:
            for name, value in content.items():
                if name in _LISTS:
                    found |= _listed(name, value, f"{file}: {name}")
                elif name.endswith("_token") and not isinstance(value, bool):
                    found.pop(name, None)
                    if value is not None:
                        found[name] = Declared(_token(value, f"{file}: {name}", True), None, f"{file}: {name}")
        order = {name: place for place, name in enumerate(_NAMES)}
        return dict(sorted(found.items(), key=lambda each: order.get(each[0], len(order) + (each[0][:1] == "["))))

    def added_tokens(self, of_library: list[Declared]) -> list[Declared]:
        """All tokens besides the vocabulary's, those with an id in its order, then the rest.

        Args:
            of_library: those that `tokenizer.json` lists.

        Raises:
            TokenizerError: an entry that is no token.
        """
        of_library_by_text = {each.token.content: each for each in of_library}
        named = self.named()
        if self.decoder is not None:
            where = f"{self.folder / SETTINGS_FILE}: added_tokens_decoder"
            tokens = [
                Declared(_token(value, f"{where} {key}", False), _id(key, where), where)
                for key, value in self.decoder.items()
            ]
            found = of_library_by_text | {each.token.content: each for each in tokens}
        else:
            where = str(self.folder / ADDED_FILE)
            special = {each.token.content for each in named.values()}
            tokens = [
                Declared(
                    AddedToken(text, normalized=text not in special, special=text in special), _id(key, where), where
                )
                for text, key in self.added.items()
            ]
            found = {each.token.content: each for each in tokens} | of_library_by_text
        found = {
            each.token.content: each for each in sorted(found.values(), key=lambda each: (each.id is None, each.id))
        }
        for each in named.values():
            found.setdefault(each.token.content, each)
        return list(found.values())

    def defaults(self, library: tokenizers.Tokenizer) -> dict[str, str]:
        """What the class declares where the files do not, of tokens that the vocabulary has."""
        known = self.named()
        klass = self.klass or (BERT_CLASS if isinstance(library.model, models.WordPiece) else GPT2_CLASS)
        declared = _DEFAULTS.get(klass, {})
        return {
            name: text for name, text in declared.items() if name not in known and library.token_to_id(text) is not None
        }


@dataclass(frozen=True)
class Beginning:
    """The beginning-of-text token; without one `why` says what is the matter, `note` what is worth saying."""

    id: int | None
    why: str = ""
    note: str = ""


def beginning(settings: Settings, library: tokenizers.Tokenizer, config: GPT2Config) -> Beginning:
    """Which token begins a text: the tokenizer's own declaration, else config.json's, else the class's default."""
    named, defaults = settings.named(), settings.defaults(library)
    # BERT's texts begin with [CLS]; it declares no other beginning.
    own = next((named[name].token.content for name in ("bos_token", "cls_token") if name in named), None)
    default = defaults.get("bos_token") or defaults.get("cls_token")
    if own is None and settings.klass is not None:
        own = default
    if own is None and config.bos_token_id is None:
        own = default or (_END_OF_TEXT if library.token_to_id(_END_OF_TEXT) is not None else None)
    if own is None:
        return Beginning(config.bos_token_id, "" if config.bos_token_id is not None else _beyond(settings, config))
    chosen = library.token_to_id(own)
    if chosen is None or chosen >= config.d_vocab:
        shown = f"the tokenizer's, {own!r}, is token id {chosen}"
        return Beginning(None, f"{shown}, beyond the model's vocabulary of {config.d_vocab}")
    if config.bos_token_id not in (None, chosen):
        shown = f"{settings.folder}: the tokenizer begins a text with {own!r} (token id {chosen})"
        return Beginning(chosen, note=f"{shown}, config.json with {config.bos_token_id}; the tokenizer's counts")
    return Beginning(chosen)


def _beyond(settings: Settings, config: GPT2Config) -> str:
    stated = settings.model_bos
    if isinstance(stated, bool) or not isinstance(stated, int) or 0 <= stated < config.d_vocab:
        return ""
    return f"config.json's bos_token_id, {stated}, lies beyond the model's vocabulary of {config.d_vocab}"


def listed_tokens(value: Any, where: str) -> list[Declared]:
    """`added_tokens` of a tokenizer.json.

    Raises:
        TokenizerError: it is no list of tokens.
    """
    if not isinstance(value, list):
        raise TokenizerError(f"{where}: added_tokens is no list; fetch it again")
    place = f"{where}: added_tokens"
    return [Declared(_token(each, place, False), _id(_object(each, place).get("id"), place), place) for each in value]


def _listed(name: str, value: Any, where: str) -> dict[str, Declared]:
    if value is None:
        return {}
    if isinstance(value, dict) and name == _LISTS[0]:
        return {f"[{key}]": Declared(_token(each, f"{where} {key}", True), None, where) for key, each in value.items()}
    if not isinstance(value, list):
        raise TokenizerError(f"{where} is {value!r}, expected a list of tokens; correct it")
    tokens = [_token(each, where, True) for each in value]
    return {f"[{token.content}]": Declared(token, None, where) for token in tokens}


def _token(value: Any, where: str, special: bool) -> AddedToken:
    """A token given as text or as an object with `content` and flags."""
    if isinstance(value, str) and value:
        return AddedToken(value, special=special)
    given = _object(value, where)
    content = given.get("content")
    flags = {key: each for key, each in given.items() if key not in ("content", "id", "__type")}
    wrong = [key for key, each in flags.items() if key not in _FLAGS or not isinstance(each, bool)]
    if not isinstance(content, str) or not content or wrong:
        what = f"{wrong[0]} is {flags[wrong[0]]!r}" if wrong else f"content is {content!r}"
        expected = f"content, text, and {', '.join(_FLAGS)}, true or false"
        raise TokenizerError(f"{where}: {what}; expected {expected}; correct it")
    return AddedToken(content, **(flags | ({"special": True} if special else {})))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TokenizerError(f"{where}: found {value!r}, expected an object; correct it")
    return value


def _id(value: Any, where: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise TokenizerError(f"{where}: {value!r} is no token id; correct it")
    return int(text)

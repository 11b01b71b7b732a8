"""From one record, as files hold it, to one checked prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gpt2jax.errors import TokenizerError
from gpt2jax.token_text import text_of_strings
from svdtrace.errors import PromptError
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.roles import Located, position
from svdtrace.prompts.values import check_name, is_unicode, plain, printable, strings_in

if TYPE_CHECKING:
    from gpt2jax.config import GPT2Config
    from gpt2jax.tokenizer import Tokenizer

FIELDS = ("id", "text", "tokens", "roles", "answer", "distractor")


@dataclass(frozen=True)
class Limits:
    """What a prompt must fit: the model's tokenizer and sizes; `bos` is the id to put first, if any."""

    tokenizer: Tokenizer | None
    d_vocab: int | None = None
    n_ctx: int | None = None
    bos: int | None = None

    @property
    def longest(self) -> int | None:
        """How many tokens a prompt may have before the beginning-of-text token is put in front."""
        return self.n_ctx if self.n_ctx is None or self.bos is None else self.n_ctx - 1

    @classmethod
    def of(cls, tokenizer: Tokenizer | None, config: GPT2Config | None, bos: bool) -> Limits:
        """The limits of a model; without a configuration the tokenizer's vocabulary alone.

        Raises:
            PromptError: a beginning-of-text token is wanted, but neither tokenizer nor configuration names one.
        """
        first = None
        if bos:
            first = tokenizer.bos_token_id if tokenizer is not None else None
            lacking = tokenizer.bos_lacking if tokenizer is not None and first is None else ""
            first = config.bos_token_id if first is None and config is not None and not lacking else first
            if first is None:
                why = lacking or "the model names none (bos_token_id in config.json)"
                raise PromptError(f"the beginning-of-text token is asked for, but {why}; leave --bos out")
        if config is not None:
            return cls(tokenizer, config.d_vocab, config.n_ctx, first)
        return cls(tokenizer, tokenizer.d_vocab if tokenizer is not None else None, None, first)


def build(record: Any, limits: Limits) -> Prompt:
    """The prompt that a record describes: `text` or `tokens` (they win), `roles`, `answer`, `distractor`, `id`.

    Whatever source a record comes from, it is read alike, see `svdtrace.prompts.values.plain`.

    Raises:
        PromptError: the record cannot be used; the message does not know the file, the caller puts it in front.
    """
    if isinstance(record, PromptError):
        raise record
    if not isinstance(record, Mapping):
        raise PromptError('expected an object such as {"text": "Then, Mary and John went …"}')
    check_keys(record)
    record = {name: plain(record.get(name)) for name in FIELDS}
    _check_strings(record)
    tokens, located = _tokens(record, limits)
    roles = {name: position(name, value, located) for name, value in _roles(record).items() if value is not None}
    answer, distractor = (_answer(name, record.get(name), limits) for name in ("answer", "distractor"))
    text = located.text
    if limits.bos is not None:
        tokens = (limits.bos, *tokens)
        text = None if text is None else text_of_strings(_strings((limits.bos,), limits)) + text
        roles = {name: place + 1 for name, place in roles.items()}
    if limits.n_ctx is not None and len(tokens) > limits.n_ctx:
        raise PromptError(
            f"the prompt has {len(tokens)} tokens, but the model reads at most {limits.n_ctx}; shorten it"
        )
    return Prompt(record["id"], tokens, _strings(tokens, limits), roles, answer, distractor, text)


def check_keys(keys: Collection[Any]) -> None:
    """Hold the keys of a record, or the columns of a table, against `FIELDS`; those that are no slip are let be.

    Raises:
        PromptError: a key that is nearly that of a field which is not there.
    """
    for name in keys:
        near = get_close_matches(str(name), FIELDS, n=1, cutoff=0.8)
        if name not in FIELDS and near and near[0] not in keys:
            raise PromptError(f'unknown key "{printable(str(name))}"; did you mean "{near[0]}"?')


def _check_strings(record: Mapping[str, Any]) -> None:
    """Once for all strings of a record, so that whatever is made of them can be written and shown."""
    text = record["text"]
    if text is not None and (not isinstance(text, str) or not is_unicode(text)):
        raise PromptError('"text" must be a string of valid Unicode')
    if record["id"] is not None:
        check_name("id", record["id"])
    for name in _roles(record):
        check_name("the name of a role", name)
    for field in FIELDS:
        wrong = next((each for each in strings_in(record[field]) if not is_unicode(each)), None)
        if wrong is not None:
            raise PromptError(f'"{field}" holds "{printable(wrong)}", which is not valid Unicode; mend it')


def _tokens(record: Mapping[str, Any], limits: Limits) -> tuple[tuple[int, ...], Located]:
    tokens, text = record.get("tokens"), record.get("text")
    if tokens is not None:
        if not isinstance(tokens, list) or not all(map(_is_whole, tokens)):
            raise PromptError('"tokens" must be a list of token ids, such as [464, 2068]')
        return _from_ids(tuple(tokens), limits)
    if text is None:
        raise PromptError('neither "text" nor "tokens" is given; give one of them')
    if limits.tokenizer is None:
        raise PromptError('"text" is given, but the model has no tokenizer; give "tokens" (ids)')
    try:
        ids, spans = limits.tokenizer.encode_with_offsets(text)
    except TokenizerError as error:
        raise PromptError(str(error)) from None
    if not ids:
        raise PromptError("the prompt has no tokens; give some text")
    return tuple(ids), Located(text, tuple(spans), len(ids))


def _from_ids(tokens: tuple[int, ...], limits: Limits) -> tuple[tuple[int, ...], Located]:
    if not tokens:
        raise PromptError("the prompt has no tokens; give at least one")
    for place, token in enumerate(tokens):
        _check_id(f"token {token} at position {place}", token, limits)
    if limits.tokenizer is None or limits.tokenizer.unread:
        return tokens, Located(None, (), len(tokens))
    return tokens, _located(tokens, limits.tokenizer)


def _located(tokens: tuple[int, ...], tokenizer: Tokenizer) -> Located:
    """The running text of ids with the characters of each; with ids that have no token, their strings, joined."""
    try:
        text, spans = tokenizer.decode_with_offsets(tokens)
        return Located(text, tuple(spans), len(tokens))
    except TokenizerError:
        strings = tokenizer.strings(tokens)  # padding of the vocabulary
    ends = list(accumulate(map(len, strings)))
    return Located("".join(strings), tuple(zip([0, *ends[:-1]], ends, strict=True)), len(tokens))


def _roles(record: Mapping[str, Any]) -> Mapping[str, Any]:
    roles = record.get("roles")
    if roles is None:
        return {}
    if isinstance(roles, list):
        # A parquet map, as it is read and as tables write it into JSON.
        pairs = [pair for pair in map(_pair, roles) if pair is not None]
        roles = dict(pairs) if len(pairs) == len(roles) else None
    if not isinstance(roles, Mapping):
        raise PromptError('"roles" must be an object from names to positions, such as {"IO": 2}')
    return roles


def _pair(entry: Any) -> tuple[str, Any] | None:
    """A role as (name, position), or as a struct of both, as Arrow names them; `None` where it is neither."""
    if isinstance(entry, Mapping) and list(entry) == ["key", "value"]:
        entry = list(entry.values())
    return tuple(entry) if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) else None


def _answer(name: str, value: Any, limits: Limits) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _answer_of_text(name, value, limits)
    if not _is_whole(value):
        raise PromptError(f"{name} is {value!r}; give a token id, or text that is one token")
    _check_id(f"{name} {value}", value, limits)
    return value


def _answer_of_text(name: str, text: str, limits: Limits) -> int:
    """The token that `text` is: as given, else with a space before it, else without the space it has."""
    if limits.tokenizer is None:
        raise PromptError(f'{name} is the text "{text}", but the model has no tokenizer; give a token id')
    for variant in (text, f" {text}", text.removeprefix(" ")):
        token = _one_token(variant, limits.tokenizer) if variant else None
        if token is not None:
            return token
    raise PromptError(f'{name} is the text "{text}", which is not one token of the model; give a token id')


def _one_token(text: str, tokenizer: Tokenizer) -> int | None:
    try:
        return tokenizer.token_id(text)
    except TokenizerError as error:
        raise PromptError(str(error)) from None


def _strings(tokens: tuple[int, ...], limits: Limits) -> tuple[str, ...]:
    if limits.tokenizer is None:
        return tuple(map(str, tokens))
    return tuple(limits.tokenizer.strings(tokens))


def _check_id(what: str, token: int, limits: Limits) -> None:
    if not _fits(token, limits):
        if limits.d_vocab is None:
            raise PromptError(f"{what} is no token id; ids count from 0")
        raise PromptError(f"{what} is outside the model's vocabulary, 0 to {limits.d_vocab - 1}; use its own tokenizer")


def _fits(token: int, limits: Limits) -> bool:
    return token >= 0 and (limits.d_vocab is None or token < limits.d_vocab)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

"""Prompts in windows: as many records as one part of a sweep holds, with those that cannot be used set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from svdtrace.errors import PromptError
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits, build
from svdtrace.prompts.sources import Placed


@dataclass(frozen=True)
class Rejected:
    """A record that is no prompt for the model: its 0-based place in the input, where it stands, what is wrong."""

    prompt: int
    where: str
    reason: str


@dataclass(frozen=True)
class Window:
    """What one part of a sweep is made of.

    `places[n]` is the 0-based place of `prompts[n]` in the input, rejected records counted; `first` that of the
    window's first record. `digest` tells windows apart: a hash of places and prompts.
    """

    number: int
    first: int
    prompts: tuple[Prompt, ...]
    places: tuple[int, ...]
    rejected: tuple[Rejected, ...]
    digest: str


def _every(_number: int) -> bool:
    """Want every window."""
    return True


def windows(
    placed: Iterable[Placed],
    limits: Limits,
    size: int,
    *,
    strict: bool = False,
    wanted: Callable[[int], bool] = _every,
) -> Iterator[Window]:
    """Cut a stream of records into windows; nothing of an earlier window is remembered.

    Args:
        placed: records with the place that a message about one names.
        limits: what a prompt must fit.
        size: records a window.
        strict: a record that cannot be used is an error.
        wanted: which windows to make, by their numbers; the records of others are passed over.

    Raises:
        PromptError: the stream itself cannot be read on, or `strict` and a record cannot be used.
    """
    stream = iter(placed)
    for number in count():
        records = list(islice(stream, size))
        if not records:
            return
        if wanted(number):
            yield _window(number, number * size, records, limits, strict)


def _window(number: int, first: int, records: list[Placed], limits: Limits, strict: bool) -> Window:
    prompts: dict[int, Prompt] = {}
    rejected: list[Rejected] = []
    names: dict[str, str] = {}
    for place, (where, record) in enumerate(records, first):
        try:
            prompt = build(record, limits)
            if prompt.id is not None and prompt.id in names:
                raise PromptError(f'id "{prompt.id}" was used before, at {names[prompt.id]}; rename one')
        except PromptError as error:
            if strict:
                raise PromptError(f"{where}: {error}") from None
            rejected.append(Rejected(place, where, str(error)))
            continue
        if prompt.id is not None:
            names[prompt.id] = where
        prompts[place] = prompt
    said = [
        [place, each.id, each.tokens, each.strings, list(each.roles.items()), each.answer, each.distractor]
        for place, each in prompts.items()
    ]
    digest = hashlib.sha256(json.dumps([said, [each.prompt for each in rejected]]).encode()).hexdigest()
    return Window(number, first, tuple(prompts.values()), tuple(prompts), tuple(rejected), digest)

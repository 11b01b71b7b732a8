"""Prompts in windows: as many records as one part of a sweep holds, with those that cannot be used set aside."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from svdtrace.errors import PromptError
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits, build
from svdtrace.prompts.sources import Placed
from svdtrace.prompts.values import printable
from svdtrace.tracing.batching import Plan


@dataclass(frozen=True)
class Rejected:
    """A record that is no prompt for the model: its 0-based place in the input, where it stands, what is wrong."""

    prompt: int
    where: str
    reason: str


@dataclass(frozen=True)
class Built:
    """A record's 0-based place in the input, where it stands, and its prompt or what is wrong with it."""

    place: int
    where: str
    prompt: Prompt | None
    reason: str = ""


@dataclass(frozen=True)
class Window:
    """What one part of a sweep is made of.

    `places[n]` is the 0-based place of `prompts[n]` in the input, rejected records counted. `digest` tells windows
    apart: a hash of places and prompts.
    """

    number: int
    prompts: tuple[Prompt, ...]
    places: tuple[int, ...]
    rejected: tuple[Rejected, ...]
    digest: str


@dataclass(frozen=True)
class Cut:
    """How a stream is cut into windows: by what it holds alone, so that it is cut in the same way when a sweep goes on.

    `records` at most a window, and prompts that come to at most `tokens`, counted as the batches of the plan hold them
    (see `padded_tokens`); as many as there may be where that is `None`. A window holds one record at least.
    """

    records: int
    tokens: int | None
    plan: Plan


@dataclass
class _Load:
    """What a window's batches come to, prompt by prompt."""

    cut: Cut
    in_bucket: dict[int, int] = field(default_factory=dict)
    records: int = 0
    tokens: int = 0

    def takes(self, record: Built) -> bool:
        """Add a record, if the window still holds it."""
        more, bucket = 0, None
        if record.prompt is not None:
            bucket = bisect_left(self.cut.plan.edges, len(record.prompt.tokens))
            opens = self.in_bucket.get(bucket, 0) % self.cut.plan.sizes[bucket] == 0
            more = self.cut.plan.edges[bucket] * self.cut.plan.sizes[bucket] if opens else 0
        full = self.cut.tokens is not None and more and self.tokens + more > self.cut.tokens
        if self.records and full:
            return False
        self.records, self.tokens = self.records + 1, self.tokens + more
        if bucket is not None:
            self.in_bucket[bucket] = self.in_bucket.get(bucket, 0) + 1
        return True


def padded_tokens(prompts: Sequence[Prompt], plan: Plan) -> int:
    """How many tokens the batches of prompts hold, their padding and their empty rows counted."""
    load = _Load(Cut(len(prompts), None, plan))
    for place, prompt in enumerate(prompts):
        load.takes(Built(place, "", prompt))
    return load.tokens


def built(placed: Iterable[Placed], limits: Limits, *, strict: bool = False) -> Iterator[Built]:
    """Records, each as a prompt or with what is wrong with it.

    Args:
        placed: records with the place that a message about one names.
        limits: what a prompt must fit.
        strict: a record that cannot be used is an error.

    Raises:
        PromptError: the stream itself cannot be read on, or `strict` and a record cannot be used.
    """
    for place, (where, record) in enumerate(placed):
        try:
            yield Built(place, where, build(record, limits))
        except PromptError as error:
            if strict:
                raise PromptError(f"{where}: {error}") from None
            yield Built(place, where, None, str(error))


def first_of(stream: Iterator[Built], size: int, source: str) -> list[Built]:
    """The first records, as many as it takes to have prompts: `size` of them, or a multiple.

    Args:
        stream: those taken are gone from it.
        size: records at a time.
        source: what messages call it.

    Raises:
        PromptError: there is none, or none that can be used.
    """
    first: list[Built] = []
    while not any(each.prompt is not None for each in first[-size:]):
        more = list(islice(stream, size))
        if not more and not first:
            raise PromptError(f"{source}: holds no prompts; give some")
        if not more:
            raise PromptError(
                f"{source}: none of its {len(first)} prompts can be used; of the first, "
                f"{first[0].where}: {first[0].reason}"
            )
        first += more
    return first


def windows(stream: Iterable[Built], cut: Cut, *, strict: bool = False) -> Iterator[Window]:
    """Cut a stream of records into windows; nothing of an earlier window is remembered.

    Raises:
        PromptError: see `built`; ids are checked to be unique within a window.
    """
    number, held, load = 0, [], _Load(cut)
    for each in stream:
        if not load.takes(each):
            yield _window(number, held, strict)
            number, held, load = number + 1, [], _Load(cut)
            load.takes(each)
        held.append(each)
        if len(held) == cut.records:
            # Without asking for one more, which a stream may be slow to give.
            yield _window(number, held, strict)
            number, held, load = number + 1, [], _Load(cut)
    if held:
        yield _window(number, held, strict)


def _window(number: int, records: Sequence[Built], strict: bool) -> Window:
    prompts: dict[int, Prompt] = {}
    rejected: list[Rejected] = []
    names: dict[str, str] = {}
    for each in records:
        reason = each.reason
        if each.prompt is not None and each.prompt.id is not None:
            if each.prompt.id in names:
                reason = f'id "{each.prompt.id}" was used before, at {names[each.prompt.id]}; rename one'
                if strict:
                    raise PromptError(f"{each.where}: {reason}")
            names.setdefault(each.prompt.id, each.where)
        if each.prompt is None or reason:
            # Whatever a reason says, it must not fail to be written.
            rejected.append(Rejected(each.place, printable(each.where), printable(reason)))
        else:
            prompts[each.place] = each.prompt
    said = [
        [place, each.id, each.tokens, each.strings, list(each.roles.items()), each.answer, each.distractor]
        for place, each in prompts.items()
    ]
    digest = hashlib.sha256(json.dumps([said, [each.prompt for each in rejected]]).encode()).hexdigest()
    return Window(number, tuple(prompts.values()), tuple(prompts), tuple(rejected), digest)

"""Edits of one batch, put together into few compiled programs: by first layer, by window, by number of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from svdtrace.interventions.edits import Edit, compared, likeness
from svdtrace.interventions.pairs import firing_of
from svdtrace.interventions.planning import Planned, Spec
from svdtrace.interventions.scene import Scene
from svdtrace.interventions.windows import NOWHERE, STEM, Outcome, Reads, Watched, Writes, run_windows

UNWATCHED = -2


@dataclass(frozen=True)
class Found:
    """What an edit did in a batch, [prompt] each; NaN for what is not defined."""

    logit_difference: np.ndarray
    kl: np.ndarray
    score: np.ndarray
    pattern: np.ndarray
    norm_ratio: np.ndarray
    cosine: np.ndarray


class Key(NamedTuple):
    """What edits have in common that run in one call."""

    local: bool
    stem: bool
    first: int
    window: int
    entries: int


def key_of(edit: Edit, scene: Scene) -> Key:
    """Which calls an edit can be part of; `stem`: it edits the first residual."""
    entries = 1
    while entries < len(edit.layer):
        entries *= 4
    window = rounded_up(edit.window(scene.batch.last), scene.batch.tokens.shape[1])
    return Key(edit.local, bool((edit.layer == STEM).any()), edit.first_layer, window, entries)


def tokens_per_call(platform: str) -> int:
    """How many tokens of all edits together are computed at once: enough to keep matrix products busy."""
    return 2048 if platform == "cpu" else 2**16


def run_all(scene: Scene, planned: Iterable[Planned], platform: str, take: Callable[[Planned, Found], None]) -> None:
    """Run edits, and hand what each did to `take`."""
    groups: dict[Key, list[Planned]] = {}
    waiting: list[tuple[list[Planned], Outcome]] = []
    n_prompts = len(scene.batch.tokens)

    def send(key: Key) -> None:
        group = groups.pop(key)
        waiting.append((group, _dispatch(scene, group, key, _per_call(n_prompts, key.window, platform))))

    for each in planned:
        key = key_of(each.edit, scene)
        groups.setdefault(key, []).append(each)
        if len(groups[key]) == _per_call(n_prompts, key.window, platform):
            send(key)
        # Results are fetched a few calls late, so that the device always has work.
        while len(waiting) > 4:
            _collect(scene, *waiting.pop(0), take)
    for key in list(groups):
        send(key)
    for call in waiting:
        _collect(scene, *call, take)


def rounded_up(window: int, n_tokens: int) -> int:
    """A window's length as 1 or a multiple of 8 tokens and an eighth of the whole: few lengths, few programs."""
    step = max(8, -(-n_tokens // 8))
    return 1 if window == 1 else min(-(-window // step) * step, n_tokens)


def watched_firing(spec: Spec) -> tuple[int, int, str, str] | None:
    """The firing whose score a set's row shows: the only one that its edges belong to."""
    firings = {firing_of(edge) for edge in spec.edges}
    return firings.pop() if len(firings) == 1 else None


def _per_call(n_prompts: int, window: int, platform: str) -> int:
    many = max(1, tokens_per_call(platform) // (n_prompts * window))
    return min(64, 1 << (many.bit_length() - 1))


def _dispatch(scene: Scene, group: Sequence[Planned], key: Key, size: int) -> Outcome:
    local, window = key.local, key.window
    writes, reads = (0, key.entries) if local else (key.entries, 0)
    # A call that is not full repeats its last edit.
    edits = [each.edit for each in group] + [group[-1].edit] * (size - len(group))
    specs = [each.run.spec for each in group] + [group[-1].run.spec] * (size - len(group))
    none = [_nothing(edits[0])] * size
    return run_windows(
        scene.config,
        scene.model.params,
        scene.aligned,
        np.int32(key.first),
        _writes(scene, none if local else edits, writes, window),
        _reads(scene, edits if local else none, reads, window),
        _watched(scene, specs, window),
        scene.batch.answer,
        scene.batch.distractor,
        window=window,
        stem=key.stem,
    )


def _nothing(edit: Edit) -> Edit:
    """An edit without entries."""
    fields = {name: getattr(edit, name)[:0] for name in ("layer", "which", "token", "delta", "before", "hold", "qkv")}
    return Edit(local=edit.local, **fields)


def _stacked(values: Sequence[np.ndarray], entries: int, filler: float, dtype: Any) -> np.ndarray:
    """The edits' entries side by side, filled up to one number of them."""
    out = np.full((len(values), entries, *values[0].shape[1:]), filler, dtype)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return out


def _places(scene: Scene, edits: Sequence[Edit], entries: int, window: int) -> np.ndarray:
    """Tokens as places in the window."""
    shift = window - 1 - scene.batch.last
    return _stacked([np.where(edit.edited, edit.token + shift, NOWHERE) for edit in edits], entries, NOWHERE, np.int32)


def _writes(scene: Scene, edits: Sequence[Edit], entries: int, window: int) -> Writes:
    dtype = scene.clean.resid_pre.dtype
    return Writes(
        layer=_stacked([edit.layer for edit in edits], entries, UNWATCHED, np.int32),
        part=_stacked([edit.which for edit in edits], entries, 0, np.int32),
        token=_places(scene, edits, entries, window),
        delta=_stacked([edit.delta for edit in edits], entries, 0, dtype),
        before=_stacked([edit.before for edit in edits], entries, 0, dtype),
    )


def _reads(scene: Scene, edits: Sequence[Edit], entries: int, window: int) -> Reads:
    def moved(edit: Edit) -> np.ndarray:
        weights = scene.reading[:, edit.layer, edit.which]
        delta = np.einsum("epd,zedh->epzh", edit.delta, weights, optimize=True) * edit.qkv[:, None, :, None]
        return delta if edit.resid is None else np.zeros_like(delta)

    dtype, resid = scene.clean.q.dtype, [edit.resid for edit in edits if edit.resid is not None]
    return Reads(
        layer=_stacked([edit.layer for edit in edits], entries, UNWATCHED, np.int32),
        head=_stacked([edit.which for edit in edits], entries, 0, np.int32),
        token=_places(scene, edits, entries, window),
        delta=_stacked([moved(edit) for edit in edits], entries, 0, dtype),
        hold=_stacked([edit.hold for edit in edits], entries, False, bool),
        resid=_stacked(resid, entries, 0, dtype) if resid else None,
        qkv=_stacked([edit.qkv for edit in edits], entries, False, bool),
    )


def _watched(scene: Scene, specs: Sequence[Spec], window: int) -> Watched:
    n_tokens = scene.batch.tokens.shape[1]
    firings = [watched_firing(spec) for spec in specs]
    rows = [0 if firing is None else scene.firing[firing] for firing in firings]
    last = scene.batch.last
    return Watched(
        layer=np.asarray([UNWATCHED if firing is None else firing[0] for firing in firings], np.int32),
        head=np.asarray([0 if firing is None else firing[1] for firing in firings], np.int32),
        dest=np.clip(scene.pairs.dest[rows] + window - 1 - last, 0, window - 1).astype(np.int32),
        src=np.clip(scene.pairs.src[rows] + n_tokens - 1 - last, 0, n_tokens - 1).astype(np.int32),
    )


def _collect(scene: Scene, group: Sequence[Planned], outcome: Outcome, take: Callable[[Planned, Found], None]) -> None:
    named = {name: np.asarray(getattr(outcome, name)) for name in outcome.__dataclass_fields__}
    for place, each in enumerate(group):
        edit, count = each.edit, len(each.edit.layer)
        if edit.local:
            ratio, cosine = likeness(edit)
        else:
            ratio, cosine = compared(edit, named["square"][place, :count], named["product"][place, :count])
        mine = {name: named[name][place] for name in ("kl", "score", "pattern")}
        mine["logit_difference"] = scene.batch.asked(named["logit_difference"][place])
        take(each, Found(**mine, norm_ratio=ratio, cosine=cosine))

"""What the page says in words: headline, figures, settings, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from svdtrace.report.data import PageData
from svdtrace.report.more import MORE, More
from svdtrace.report.numbers import rounded
from svdtrace.report.results import Result
from svdtrace.report.rounded import Rounded, rounded_words
from svdtrace.report.traced import Traced, model_of
from svdtrace.rounding import ROUNDING


@dataclass(frozen=True)
class Tile:
    """A figure with its name, and a word on it."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Group:
    """Settings that belong together, as (name, value)."""

    name: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stage:
    """Seconds of one stage; `width` in percent of the longest."""

    name: str
    value: str
    width: float


@dataclass(frozen=True)
class Words:
    """All text of the page that depends on the trace, as plain text."""

    title: str
    headline: str
    lede: tuple[str, ...]
    tiles: tuple[Tile, ...]
    nothing: str
    d_head: int
    groups: tuple[Group, ...]
    seconds: tuple[Stage, ...]
    left_out: tuple[str, ...]
    notes: Mapping[str, str]
    rounding: Rounded | None = None
    more: tuple[More, ...] = MORE


def words(trace: Traced, data: PageData, results: Sequence[Result] = ()) -> Words:
    """Say what a trace found.

    Args:
        trace: a trace.
        data: what is counted together of it.
        results: of other commands, whose settings are named too.
    """
    manifest = trace.manifest
    return Words(
        title=f"svdtrace: {_plural(trace.prompts.num_rows, 'prompt')}, {_plural(trace.firings.num_rows, 'firing')}",
        headline=_headline(trace, data),
        lede=_lede(trace, data),
        tiles=tuple(_tiles(trace, data)),
        nothing=_nothing(trace),
        d_head=data.d_head,
        groups=(*_groups(manifest), *(_group_of(result) for result in results)),
        notes=_notes(manifest, results),
        rounding=rounded_words(manifest, trace.prompts.num_rows),
        seconds=tuple(_stages(manifest.get("seconds", {}))),
        left_out=data.left_out,
    )


def _headline(trace: Traced, data: PageData) -> str:
    if not trace.firings.num_rows:
        return "No head fired"
    many = len(data.heads.firings)
    work = f"{_plural(many, 'head')} {'work' if many > 1 else 'works'}"
    return f"{work} through {_mean_size(trace)} of {data.d_head} dimensions at a time"


def _lede(trace: Traced, data: PageData) -> tuple[str, ...]:
    config, model = trace.manifest.get("config", {}), model_of(trace.manifest)
    shape = f"of {model['n_layers']} layers with {model['n_heads']} heads each" if "n_layers" in model else ""
    threshold = float(config.get("threshold", 0.5))
    read = f"A model {shape} read {_plural(trace.prompts.num_rows, 'prompt')}.".replace("  ", " ")
    if not trace.firings.num_rows:
        return (
            f"{read} No head gave {threshold:.0%} or more of its attention to one token as the settings below ask.",
        )
    in_all, reached = _firings_in_all(trace), trace.firings.num_rows
    by_roots = f" {reached:,} of these firings are roots or lead to one: those are shown." if reached < in_all else ""
    fired = (
        f"{read} {_plural(in_all, 'time')}, a head gave at least {threshold:.0%} of its attention to one token: it "
        f"fired.{by_roots} On average {_mean_size(trace)} of a head's {data.d_head} singular vectors carry such a "
        "choice."
    )
    if not trace.edges.num_rows:
        return (fired,)
    return (
        fired,
        f"Following those few vectors back to what earlier heads wrote gives {_plural(trace.edges.num_rows, 'edge')}; "
        f"counted over prompts they are {_plural(data.n_connections, 'connection')}.",
    )


def _firings_in_all(trace: Traced) -> int:
    """Firings of all heads, whether a root is reached from them or not."""
    per_head = trace.manifest.get("counts", {}).get("firings_per_head", {})
    return max(trace.firings.num_rows, sum(per_head.values()))


def _tiles(trace: Traced, data: PageData) -> list[Tile]:
    prompts, firings, edges = trace.prompts.num_rows, trace.firings.num_rows, trace.edges.num_rows
    rejected = int(trace.manifest.get("prompts", {}).get("rejected", 0) or 0)
    per_prompt = f"{rounded(firings / prompts, 3)} a prompt" if prompts else ""
    tiles = [
        Tile("Prompts", f"{prompts:,}", f"{rejected:,} rejected" if rejected else ""),
        Tile("Firings", f"{firings:,}", per_prompt),
        Tile("Edges", f"{edges:,}", f"{data.n_connections:,} connections"),
    ]
    if firings:
        tiles.append(Tile("Mean |S|", _mean_size(trace), f"of {data.d_head} singular vectors"))
    difference = trace.prompts["logit_difference"].drop_null().to_numpy()
    if len(difference):
        right = f"{np.mean(difference > 0):.0%} prefer the answer"
        tiles.append(Tile("Logit difference", str(rounded(float(difference.mean()), 3)), right))
    ties = [int(np.count_nonzero(table["near_tie"].to_numpy())) for table in (trace.firings, trace.edges)]
    if firings:
        tiles.append(Tile("Near ties", f"{ties[0]:,}", f"of firings; {ties[1]:,} of edges"))
    return tiles


def _nothing(trace: Traced) -> str:
    if trace.firings.num_rows:
        return "No edges: no earlier head wrote anything that these firings read through their slices."
    config = trace.manifest.get("config", {})
    in_all = _firings_in_all(trace)
    if in_all:
        return (
            f"None of the {_plural(in_all, 'firing')} is one that the roots name (now {config.get('roots')}), so there "
            "is no circuit to draw. Name other roots, or all."
        )
    asked = "" if config.get("roots", "all") == "all" else " or start from more roots (now {}),".format(config["roots"])
    return (
        "No head fired in these prompts, so there is no circuit to draw. To find firings, lower the threshold (now "
        f"{config.get('threshold', 0.5)}),{asked} or give longer prompts."
    )


def _groups(manifest: Mapping[str, Any]) -> list[Group]:
    named = {"config": "Settings", "model": "Model", "prompts": "Prompts", "near_ties": "Near ties", "counts": "Counts"}
    manifest = {**manifest, "model": model_of(manifest)}
    apart = {*named, "seconds", "chance", "stability", ROUNDING, "files"}
    run = {name: value for name, value in manifest.items() if name not in apart}
    groups = [Group(title, _rows(manifest[name])) for name, title in named.items() if name in manifest]
    return [*groups, Group("Run", _rows(run))]


def _group_of(result: Result) -> Group:
    """Settings, versions and prompts of another command's result, under its folder's name."""
    named = ("version", "libraries", "config", "prompts", "counts", "device")
    rows = [row for name in named if name in result.manifest for row in _rows({name: result.manifest[name]})]
    return Group(f"svdtrace {result.command}", (("folder", result.folder), *rows))


def _notes(manifest: Mapping[str, Any], results: Sequence[Result]) -> dict[str, str]:
    """By command, a sentence where a result is of other prompts than the trace."""
    mine = manifest.get("prompts", {}).get("sha256")
    notes = {}
    for result in results:
        prompts = result.manifest.get("prompts", {})
        if mine is not None and prompts.get("sha256") not in (None, mine):
            many = _plural(int(prompts.get("count", 0)), "prompt")
            notes[result.command] = f"These are other prompts than those of the trace: {many}."
    return notes


def _rows(values: Any) -> tuple[tuple[str, str], ...]:
    """Nested values as flat rows; long mappings, such as counts of every head, are left to the tables above."""
    if not isinstance(values, Mapping):
        return (("value", _shown(values)),)
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            if len(value) <= 12:
                rows += [(f"{name} {inner}", _shown(each)) for inner, each in value.items()]
        else:
            rows.append((str(name), _shown(value)))
    return tuple(rows)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


def _stages(seconds: Any) -> list[Stage]:
    if not isinstance(seconds, Mapping):
        return []
    times = {str(name): float(value) for name, value in seconds.items() if isinstance(value, int | float)}
    longest = max(times.values(), default=0.0) or 1.0
    return [Stage(name, f"{value:.2f}", round(100 * value / longest, 1)) for name, value in times.items()]


def _mean_size(trace: Traced) -> str:
    return f"{np.mean(trace.firings['size'].to_numpy()):.1f}"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

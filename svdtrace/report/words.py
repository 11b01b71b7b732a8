"""What the page says in words: headline, figures, settings, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svdtrace.output.seconds import of_stages
from svdtrace.pictures.traced import model_of
from svdtrace.report.answers import Result, same_prompts
from svdtrace.report.data import PageData
from svdtrace.report.more import More, more
from svdtrace.report.numbers import rounded
from svdtrace.report.rounded import Rounded, rounded_words
from svdtrace.results.emptiness import why_empty
from svdtrace.tracing.rounding import ROUNDING


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
    one_by_one: str
    groups: tuple[Group, ...]
    seconds: tuple[Stage, ...]
    left_out: tuple[str, ...]
    notes: Mapping[str, str]
    rounding: Rounded | None = None
    more: tuple[More, ...] = ()


def words(manifest: Mapping[str, Any], data: PageData, results: Sequence[Result] = (), folder: str = "trace") -> Words:
    """Say what a trace found.

    Args:
        manifest: of a trace.
        data: what is counted together of it.
        results: of other commands, whose settings are named too.
        folder: of the trace, as commands shall name it.
    """
    return Words(
        title=f"svdtrace: {_plural(data.prompts.count, 'prompt')}, {_plural(data.totals.firings, 'firing')}",
        headline=_headline(data),
        lede=_lede(manifest, data),
        tiles=tuple(_tiles(manifest, data)),
        nothing=_nothing(manifest),
        d_head=data.d_head,
        one_by_one=_one_by_one(data),
        groups=(*_groups(manifest), *(_group_of(result) for result in results)),
        notes=_notes(manifest, results),
        rounding=rounded_words(manifest, data.prompts.count),
        seconds=tuple(_stages(manifest.get("seconds", {}))),
        left_out=data.left_out,
        more=more(folder, compared=data.prompts.differences > 0),
    )


def _headline(data: PageData) -> str:
    if not data.totals.firings:
        return "No firing is traced"
    if data.strongest:
        return data.strongest
    many = len(data.heads.firings)
    work = f"{_plural(many, 'head')} {'work' if many > 1 else 'works'}"
    return f"{work} through {data.totals.mean_size()} of {data.d_head} dimensions at a time"


def _lede(manifest: Mapping[str, Any], data: PageData) -> tuple[str, ...]:
    config, model = manifest.get("config", {}), model_of(manifest)
    shape = ""
    if "n_layers" in model:
        shape = f"of {_plural(model['n_layers'], 'layer')} with {_plural(model['n_heads'], 'head')} each"
    threshold = config.get("threshold", 0.5)
    least = "2.5 times an even share" if threshold == "dynamic" else f"at least {float(threshold):.0%}"
    read = f"A model {shape} read {_plural(data.prompts.count, 'prompt')}.".replace("  ", " ")
    if not data.totals.firings:
        return (f"{read} No firing is traced; the line below says why.",)
    in_all, reached = _firings_in_all(manifest, data), data.totals.firings
    by_roots = f" {reached:,} of these firings are roots or lead to one: those are shown." if reached < in_all else ""
    fired = (
        f"{read} {_plural(in_all, 'time')}, a head above the first layer gave {least} of its "
        f"attention to one token, as the settings below ask: it fired.{by_roots} On "
        f"average {data.totals.mean_size()} of a head's {data.d_head} singular vectors carry such a choice."
    )
    if not data.totals.edges:
        return (fired,)
    return (
        fired,
        f"Following those few vectors back to what earlier heads wrote gives {_plural(data.totals.edges, 'edge')}; "
        f"counted over prompts they are {_plural(data.n_connections, 'connection')}.",
    )


def _firings_in_all(manifest: Mapping[str, Any], data: PageData) -> int:
    """Firings of all heads, whether a root is reached from them or not."""
    per_head = manifest.get("counts", {}).get("firings_per_head", {})
    return max(data.totals.firings, sum(per_head.values()))


def _tiles(manifest: Mapping[str, Any], data: PageData) -> list[Tile]:
    prompts, totals = data.prompts, data.totals
    rejected = int(manifest.get("prompts", {}).get("rejected", 0) or 0)
    per_prompt = f"{rounded(totals.firings / prompts.count, 3)} a prompt" if prompts.count else ""
    tiles = [
        Tile("Prompts", f"{prompts.count:,}", f"{rejected:,} rejected" if rejected else ""),
        Tile("Firings", f"{totals.firings:,}", per_prompt),
        Tile("Edges", f"{totals.edges:,}", f"{data.n_connections:,} connections"),
    ]
    if totals.firings:
        tiles.append(Tile("Mean |S|", totals.mean_size(), f"of {data.d_head} singular vectors"))
    if prompts.differences:
        right = f"{prompts.right / prompts.differences:.0%} prefer the answer"
        tiles.append(Tile("Logit difference", str(rounded(prompts.mean_difference, 3)), right))
    if totals.firings:
        edges = f"of firings; {totals.edges_near_tie:,} of edges"
        tiles.append(Tile("Near ties", f"{totals.firings_near_tie:,}", edges))
    return tiles


def _one_by_one(data: PageData) -> str:
    """That not all prompts are shown singly, where it is so."""
    if data.n_shown == data.prompts.count:
        return ""
    return (
        f"The first {data.n_shown:,} of {data.prompts.count:,} prompts are shown one by one; the rest of this page "
        "counts over all."
    )


def _nothing(manifest: Mapping[str, Any]) -> str:
    """Why there is no circuit to draw."""
    why = why_empty(manifest)
    return (
        f"{why}." if why else "No edges: no earlier head wrote anything that these firings read through their slices."
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
    there = [name for name in named if name in result.manifest]
    # Settings are named as the options are; all else says what it is of.
    rows = [row for name in there for row in _rows({name: result.manifest[name]})]
    rows = [(name.removeprefix("config "), value) for name, value in rows]
    return Group(f"svdtrace {result.command}", (("folder", result.folder), *rows))


def _notes(manifest: Mapping[str, Any], results: Sequence[Result]) -> dict[str, str]:
    """By command, a sentence where a result is of other prompts than the trace."""
    notes = {}
    for result in results:
        if not same_prompts(result.manifest, manifest):
            many = _plural(int(result.manifest.get("prompts", {}).get("count", 0)), "prompt")
            notes[result.command] = f"These are other prompts than those of the trace: {many}."
    return notes


def _rows(values: Mapping[str, Any], before: str = "") -> tuple[tuple[str, str], ...]:
    """Values within values as flat rows, however deep, each under all its names; long mappings, such as counts of every
    head, are left to the tables above.
    """
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if not isinstance(value, Mapping):
            rows.append((f"{before}{name}", _shown(value)))
        elif len(value) <= 12:
            rows += _rows(value, f"{before}{name} ")
    return tuple(rows)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_shown(each)}" for name, each in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "–"
    return "–" if value is None else str(value)


def _stages(seconds: Any) -> list[Stage]:
    if not isinstance(seconds, Mapping):
        return []
    times = of_stages({str(name): float(value) for name, value in seconds.items() if isinstance(value, int | float)})
    longest = max(times.values(), default=0.0) or 1.0
    return [Stage(name, f"{value:.2f}", round(100 * value / longest, 1)) for name, value in times.items()]


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

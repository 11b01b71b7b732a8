"""Traces made up for tests of the page and the pictures: the tables' schema, a plausible circuit, no model.

The circuit is that of the indirect-object task: a previous-token head, an induction head, heads at `end` that look at
the second subject, and name movers from `end` to `IO`; the other firings are drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from svdtrace.tracing import tables
from svdtrace.tracing.close_up_tables import CLOSE_UPS, LIKELIEST

NAMES = (" Mary", " John", " Tom", " Anna", " Kate", " Paul", " Ruby", " Jack", " Rose", " Adam")
INJECTIONS = ("</script><img src=x onerror=\"document.title='pwned'\">", "<b>&amp;", "\u2028\n\t", "'\"`${1}")


@dataclass(frozen=True)
class MadeUpTrace:
    """What `svdtrace.report` reads of a trace."""

    prompts: pa.Table
    firings: pa.Table
    edges: pa.Table
    manifest: dict[str, Any]
    close_ups: pa.Table | None = None
    likeliest: pa.Table | None = None

    def parts(self) -> Iterator[MadeUpTrace]:
        """The trace, as its only part."""
        yield self

    def of(self, first: int, stop: int) -> MadeUpTrace:
        """The tables of some of the prompts."""
        within = (pc.field("prompt") >= first) & (pc.field("prompt") < stop)
        prompts, firings, edges = (table.filter(within) for table in (self.prompts, self.firings, self.edges))
        return MadeUpTrace(prompts, firings, edges, self.manifest)


@dataclass(frozen=True)
class InParts:
    """A made-up trace, so many prompts a part."""

    whole: MadeUpTrace
    size: int

    @property
    def manifest(self) -> dict[str, Any]:
        return self.whole.manifest

    def parts(self) -> Iterator[MadeUpTrace]:
        """Its parts, and one without a single prompt among them."""
        for first in range(0, self.whole.prompts.num_rows, self.size):
            yield self.whole.of(first, first + self.size)
            yield self.whole.of(0, 0)


@dataclass(frozen=True)
class Size:
    """How large a made-up trace is; `noise` firings a prompt are added to those of the circuit."""

    prompts: int = 12
    layers: int = 5
    heads: int = 8
    d_head: int = 16
    noise: int = 8
    writers: int = 3
    names: int = 6


SMALL = Size()
GPT2 = Size(prompts=256, layers=12, heads=12, d_head=64, noise=53)


def made_up_trace(
    size: Size = SMALL, seed: int = 0, injected: bool = False, roles: bool = True, empty: bool = False
) -> MadeUpTrace:
    """A trace of sentences such as " Then, Mary and John went out. John gave a ring to".

    Args:
        size: of the model and the trace.
        seed: of everything drawn.
        injected: put markup among the tokens, roles and ids.
        roles: whether prompts have roles.
        empty: no firings.
    """
    rng = np.random.default_rng(seed)
    prompts = [_prompt(rng, place, size, injected, roles) for place in range(size.prompts)]
    firings, edges = [], []
    for prompt in [] if empty else prompts:
        places = sorted(_places(rng, prompt, size))
        for layer, head, dest, src in places:
            firing = _firing(rng, prompt["prompt"], layer, head, dest, src, size)
            firings.append(firing)
            edges += _edges(rng, firing, places, size)
    asked = pa.Table.from_pylist(prompts, schema=tables.PROMPTS)
    return MadeUpTrace(
        asked,
        with_roles(asked, firings, tables.FIRINGS),
        with_roles(asked, edges, tables.EDGES),
        _manifest(size, len(firings), len(edges), sum(firing["near_tie"] for firing in firings)),
    )


def with_roles(prompts: pa.Table, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table, with the roles that the prompts say."""
    plain = pa.schema([each for each in schema if each.name not in tables.ROLES])
    return tables.with_roles(prompts, pa.Table.from_pylist(rows, schema=plain))


def _prompt(rng: np.random.Generator, place: int, size: Size, injected: bool, roles: bool) -> dict[str, Any]:
    io, subject = rng.choice(NAMES[: size.names], 2, replace=False)
    first, second = (io, subject) if place % 2 else (subject, io)
    strings = [
        "Then",
        ",",
        first,
        " and",
        second,
        " went",
        " to",
        " the",
        " market",
        ".",
        subject,
        " gave",
        " a",
        " ring",
    ]
    strings += [" to", io]
    if injected:
        strings[5:9] = INJECTIONS
    names = {"IO": 4 - 2 * (place % 2), "S1": 2 + 2 * (place % 2), "S1+1": 3 + 2 * (place % 2), "S2": 10, "end": 14}
    if injected:
        names["<i>verb</i>"] = 11
    token = {name: 1000 + number for number, name in enumerate(NAMES)}
    return {
        "prompt": place,
        "id": f"{'<u>' if injected else ''}ioi-{place}",
        "tokens": [token.get(text, number) for number, text in enumerate(strings)],
        "strings": strings,
        "roles": list(names.items()) if roles else [],
        "answer": token[io],
        "distractor": token[subject],
        "logit_difference": float(rng.normal(1.5, 1.5)),
    }


def _places(rng: np.random.Generator, prompt: dict[str, Any], size: Size) -> set[tuple[int, int, int, int]]:
    """(layer, head, dest, src) of the firings of one prompt."""
    at = {"IO": 4, "S1": 2, "S1+1": 3, "S2": 10, "end": 14} | dict(prompt["roles"])
    top = size.layers - 1
    places = {
        (1, 2, at["S1+1"], at["S1"]),
        (top - 2, 5, at["S2"], at["S1+1"]),
        (top - 1, 1, at["end"], at["S2"]),
        (top - 1, 6, at["end"], at["S2"]),
        (top, 3, at["end"], at["IO"]),
    }
    if rng.random() < 0.6:
        places.add((top, 6, at["end"], at["IO"]))
    places |= {(1, 2, dest, dest - 1) for dest in range(5, 10)}
    for _ in range(size.noise):
        dest = int(rng.integers(2, 15))
        layer, head = int(rng.integers(1, size.layers)), int(size.heads * rng.random() ** 2)
        places.add((layer, head, dest, int(rng.integers(1, dest))))
    return places


def _firing(
    rng: np.random.Generator, prompt: int, layer: int, head: int, dest: int, src: int, size: Size
) -> dict[str, Any]:
    many = 1 + int(min(size.d_head - 1, rng.poisson(size.d_head / 6 + head % 3)))
    # Every head has vectors of its own that it prefers.
    liking = 1.0 / (1 + (np.arange(size.d_head) * (2 * head + 3) + 5 * layer) % size.d_head)
    slice_ = np.argsort(liking / rng.exponential(size=size.d_head))[::-1][:many]
    products = np.sort(rng.gamma(2, 1.5, many))[::-1]
    return {
        "prompt": prompt,
        "layer": layer,
        "head": head,
        "dest": dest,
        "src": src,
        "pattern": float(rng.uniform(0.5, 1)),
        "score": float(products.sum() / np.sqrt(size.d_head)),
        "total": float(products.sum() * 0.96),
        "size": many,
        "slice": slice_.tolist(),
        "products": products.tolist(),
        "near_tie": bool(rng.random() < 0.02),
        "paths": int(rng.integers(1, 9)),
    }


def _edges(
    rng: np.random.Generator, firing: dict[str, Any], places: list[tuple[int, int, int, int]], size: Size
) -> list[dict[str, Any]]:
    """Heads that wrote to a firing's tokens by firing themselves, and some that it listens to anyway."""
    edges = []
    for side in ("dest", "src"):
        below = firing["layer"] * size.heads
        # A reader has writers that it listens to most of the time.
        fixed = (np.arange(1, size.writers) * 7 + 3 * firing["head"] + (side == "src")) % below
        wrote = [layer * size.heads + head for layer, head, dest, _ in places if dest == firing[side]]
        wrote = [writer for writer in wrote if writer < below][-2:]
        chosen = sorted({*wrote, *fixed.tolist(), int(rng.integers(below))})
        weights = rng.gamma(2, 0.6, len(chosen)) * np.isin(chosen, wrote, invert=True) * 0.5
        weights += np.isin(chosen, wrote) * rng.gamma(6, 0.25, len(chosen))
        for writer, weight in zip(chosen, weights, strict=True):
            layer, head = divmod(writer, size.heads)
            edges.append(
                {name: firing[name] for name in ("prompt", "layer", "head", "dest", "src", "paths")}
                | {"writer": f"{layer}.{head}", "writer_layer": layer, "writer_head": head, "side": side}
                | {"token": firing[side], "weight": float(weight), "share": float(0.75 * weight / weights.sum())}
                | {"near_tie": bool(rng.random() < 0.02), "nonpositive_total": False}
            )
    return edges


def _manifest(size: Size, firings: int, edges: int, near_ties: int) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "libraries": {"jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.0"},
        "command": "trace",
        "config": {
            "threshold": 0.5,
            "tau": 1.0,
            "coverage": 0.7,
            "method": "exact",
            "writers": "heads",
            "roots": f"{size.layers - 1}.3@end:IO,{size.layers - 1}.6@end:IO",
            "sides": "both",
            "skip_first": True,
            "score_min": 0.0,
            "processing": "folded",
            "batch_size": "auto",
            "dtype": "float32",
        },
        "model": {
            "fingerprint": "9f2c4e1a77b0d3c58a61",
            "processing": "folded",
            "shape": {
                "n_layers": size.layers,
                "n_heads": size.heads,
                "d_model": size.heads * size.d_head,
                "d_head": size.d_head,
                "n_ctx": 64,
                "d_vocab": 2048,
            },
        },
        "prompts": {"count": size.prompts, "sha256": "5d41402abc4b2a76b9719d911017c592", "rejected": 0},
        "counts": {"firings": firings, "edges": edges},
        "near_ties": {"pairs": 0, "firings": near_ties, "edges": 0, "places": 0, "named": []},
        "paths_saturated": 0,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "seconds": {"prepare": 0.41, "forward": 2.93, "attribute": 4.2, "tables": 0.22, "total": 7.76},
    }


def repeated(trace: MadeUpTrace, times: int) -> MadeUpTrace:
    """The same prompts several times over, each time under new numbers."""

    def again(table: pa.Table) -> pa.Table:
        shift = trace.prompts.num_rows
        parts = [
            table.set_column(0, table.schema.field(0), pa.array(table["prompt"].to_numpy() + shift * each, pa.int32()))
            for each in range(times)
        ]
        return pa.concat_tables(parts).combine_chunks()

    manifest = trace.manifest | {"prompts": {"count": trace.prompts.num_rows * times, "rejected": 0}}
    return MadeUpTrace(again(trace.prompts), again(trace.firings), again(trace.edges), manifest)


def closely(trace: MadeUpTrace, relative: bool = False) -> MadeUpTrace:
    """The same with close-ups that fit: rows whose softmax is the pattern, weights split over the slice's vectors.

    Args:
        relative: as under `--method relative`: path weights, and what writers put into the scores.
    """
    rng = np.random.default_rng(5)
    edges: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in trace.edges.to_pylist():
        edges.setdefault(tuple(row[name] for name in FIRING), []).append(row)
    rows = []
    for firing in trace.firings.to_pylist():
        place, src = {name: firing[name] for name in FIRING}, firing["src"]
        others = rng.normal(size=firing["dest"] + 1)
        others[src] = -np.inf
        # The log of the odds that the pattern is.
        whole = np.log(np.exp(others).sum()) if len(others) > 1 else 0.0
        scores = np.where(np.isinf(others), whole + np.log(firing["pattern"] / (1 - firing["pattern"])), others)
        path = np.where(np.arange(len(scores)) == src, 0.1, -0.1 / max(1, firing["dest"]))
        rows.append(place | {"scores": scores.tolist(), "path": path.tolist() if relative else None})
        for edge in edges.get(tuple(place.values()), []):
            parts = np.asarray(firing["products"]) / np.sum(firing["products"]) * edge["weight"]
            put = np.where(np.arange(len(scores)) == src, 10 * edge["weight"], 0.0)
            own = {name: edge[name] for name in ("writer", "side", "token", "weight")}
            rows.append(place | own | {"by_vector": parts.tolist(), "scores": put.tolist() if relative else None})
    likely = [
        {"prompt": prompt, "rank": rank, "token": 1000 + rank, "string": text, "probability": 0.5**rank}
        for prompt in trace.prompts["prompt"].to_pylist()
        for rank, text in enumerate((" Mary", " John", "<b>", "\n", " Tom"), 1)
    ]
    manifest = trace.manifest | {"config": trace.manifest["config"] | ({"method": "relative"} if relative else {})}
    return MadeUpTrace(
        trace.prompts,
        trace.firings,
        trace.edges,
        manifest,
        pa.Table.from_pylist(rows, schema=CLOSE_UPS),
        pa.Table.from_pylist(likely, schema=LIKELIEST),
    )


FIRING = ("prompt", "layer", "head", "dest", "src")

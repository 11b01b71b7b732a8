"""Firings by relative attention, each with all that laws need of it, in float64 (METHOD.md, section 14)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from svdtrace.comparison.removing import read_writers
from svdtrace.config import DYNAMIC, RELATIVE, TraceConfig
from svdtrace.method.firings import fired
from svdtrace.tracing.attended import with_through
from svdtrace.tracing.batching import Batch
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import attributed, watch
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES, Chunk, Rows, WriterOrder, gather_rows

TRIED = 64
"""So many firings, spread evenly over all."""


@dataclass(frozen=True)
class Explained:
    """A firing at (i, j), `at` = (prompt, layer, head, i, j), its keys t ≤ i.

    `q` = q̂_i, `k` = k̂_t; `scale` a and `root` = √σ_0; `weights` M_t; `members` S; `written` = (y C)/s of every writer
    before γ, the constant's zero; `terms` = √σ_k u_k·[x_w, 0] at i (constant: [β, 1]), and with v_k at every t. By
    side: `values` c_w, `chosen` by `until`, `drops`.
    """

    at: tuple[int, ...]
    threshold: float
    scale: float
    root: float
    q: Float[np.ndarray, " sv"]
    k: Float[np.ndarray, "tok sv"]
    weights: Float[np.ndarray, " tok"]
    members: Bool[np.ndarray, " sv"]
    products: Float[np.ndarray, " sv"]
    quadrature: float
    written: Float[np.ndarray, "writer tok d_model"]
    terms: tuple[Float[np.ndarray, "writer sv"], Float[np.ndarray, "writer tok sv"]]
    values: tuple[Float[np.ndarray, " writer"], ...]
    chosen: tuple[Bool[np.ndarray, " writer"], ...]
    drops: tuple[Float[np.ndarray, " writer"], ...]

    @property
    def src(self) -> int:
        """J."""
        return self.at[-1]

    @property
    def scores(self) -> Float[np.ndarray, " tok"]:
        """S_t."""
        return self.scale * self.k @ self.q

    @property
    def pattern(self) -> float:
        """p_j."""
        return pattern_of(self.scores, self.src)

    def rows(self, side: int, inside: Bool[np.ndarray, " sv"]) -> Float[np.ndarray, "writer tok"]:
        """What each writer puts into the scores through some k."""
        if side == 0:
            return self.scale * (self.terms[0] * inside) @ self.k.T
        return self.scale * self.terms[1] @ (self.q * inside)

    def reach(self, side: int) -> Float[np.ndarray, " writer"]:
        """What a writer's row is at most, and so what it is rounded by: a |x_w| √σ_0 times the other side's norm."""
        x = np.linalg.norm(self.written, axis=-1)
        x[-1] = 1
        if side == 0:
            return self.scale * self.root * x[:, -1] * (np.linalg.norm(self.k, axis=-1).max() + self.root)
        return self.scale * self.root * x.max(axis=-1) * (np.linalg.norm(self.q) + self.root)


@dataclass(frozen=True)
class Tried:
    """What a batch's relative attention came to."""

    observed: Observed
    rows: Rows
    firings: tuple[Explained, ...]


def pattern_of(scores: Float[np.ndarray, " tok"], src: int) -> float:
    """p_j of a row of scores."""
    power = np.exp(scores - scores.max())
    return float(power[src] / power.sum())


def try_relative(prepared: Prepared, batch: Batch, config: TraceConfig) -> Tried:
    """Attribute a batch's firings, edges by `until`, and look at some of them."""
    config = replace(config, method=RELATIVE, select="until", keys="summed", writers="all", sides="both")
    observed = watch(prepared, batch, config)
    firings, shape = fired(pairs_of(prepared, observed, config), config), prepared.model.config
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    layers = range(1, shape.n_layers)
    calls = [(layer, each) for layer in layers for each in attributed(prepared, observed, firings, layer, config)]
    rows = gather_rows(firings, [call for _, call in calls], order, SIDES, relative=True)
    rows = with_through(prepared, observed, rows, order, config.coverage)
    some = {int(each) for each in np.linspace(0, max(len(firings) - 1, 0), TRIED)} if len(firings) else set()
    looked = [
        each for layer, call in calls for each in _looked_at(prepared, observed, rows, (layer, call), some, config)
    ]
    return Tried(observed, rows, tuple(looked))


def _looked_at(
    prepared: Prepared,
    observed: Observed,
    rows: Rows,
    made: tuple[int, Chunk],
    some: set[int],
    config: TraceConfig,
) -> Iterator[Explained]:
    """Those of a call's firings that are looked at."""
    (layer, call), firings = made, rows.firings
    order = WriterOrder.of(prepared.model.config.n_layers, prepared.model.config.n_heads)
    there = np.isin(order.codes_below(call.writer_layers), order.codes_below(layer))
    reader, blocks = prepared.readers[layer - 1], prepared.model.params.blocks
    result: Any = call.result
    gathered = [each[: call.writer_layers] for each in (blocks.W_O, blocks.b_O)]
    vectors, constants = (np.asarray(each, np.float64) for each in (reader.weights, reader.shift + reader.bias))
    for slot in zip(*np.nonzero(call.row >= 0), strict=True):
        row = int(call.row[slot])
        if row not in some:
            continue

        def at(values: Any, slot: tuple[Any, ...] = slot) -> Any:
            return np.asarray(values)[slot].astype(np.float64)

        prompt, head, dest, src = (int(getattr(firings, name)[row]) for name in ("prompt", "head", "dest", "src"))
        read = read_writers(observed, jnp.int32(prompt), jnp.int32(layer), *gathered)
        written = np.asarray(read.written, np.float64)[there, : dest + 1]
        terms = written[:, -1] @ vectors[0, head], written @ vectors[1, head]
        for each, constant in zip(terms, constants[:, head], strict=True):
            each[-1] = constant
        values = [at(side.weight)[there] for side in result.sides]
        yield Explained(
            at=(prompt, layer, head, dest, src),
            threshold=min(1.0, 2.5 / (dest + 1)) if config.threshold == DYNAMIC else float(config.threshold),
            scale=float(prepared.score_scale[layer]),
            root=float(reader.scale.root[head, 0]),
            q=np.asarray(observed.q[layer, prompt, dest, head], np.float64),
            k=np.asarray(observed.k[layer, prompt, : dest + 1, head], np.float64),
            weights=at(result.weights)[: dest + 1],
            members=at(result.slices.members) > 0,
            products=at(result.products),
            quadrature=float(at(result.quadrature)),
            written=written,
            terms=terms,
            values=tuple(np.where(np.isfinite(each), each, 0) for each in values),
            chosen=tuple(at(side.choice.chosen)[there] > 0 for side in result.sides),
            drops=tuple(at(side.choice.drop)[there] for side in result.sides),
        )

"""A model and prompts that laws are tried on, and what several laws need of them, made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

import gpt2jax
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.method.bounds import pattern_bounds, product_bounds, score_bounds
from svdtrace.method.decomposition import Decomposition, decompose, gauged
from svdtrace.method.firings import FiringList, fired
from svdtrace.prompts.prompt import Prompt
from svdtrace.testing.relative_cases import Tried, try_relative
from svdtrace.tracing.batching import Batch, batches
from svdtrace.tracing.devices import precision
from svdtrace.tracing.near_ties import undecided_pairs
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import attributed, watch
from svdtrace.tracing.prepare import Prepared, in_gauge, processed
from svdtrace.tracing.trace import Trace, trace_prepared

# One set of taps for every law, so that one program serves them all.
TAPS = (
    *(f"blocks.*.hook_resid_{point}" for point in ("pre", "mid", "post")),
    *(f"blocks.*.attn.hook_{name}" for name in ("q", "k", "z", "attn_scores", "pattern")),
)


DEFAULTS = TraceConfig(writers="all")


@dataclass(frozen=True)
class Run:
    """A forward pass: `logits` (None without an unembedding) and taps under their names without `blocks.*.`."""

    logits: np.ndarray | None
    taps: dict[str, np.ndarray]


@dataclass(frozen=True)
class Attribution:
    """Every firing of a case with what its numbers are made of, and how far rounding may carry them (METHOD.md, 3, 4).

    `explained` = Σ_w c_w, `size` = Σ_w |c_w| and `bound` of each c_w, by side (dest, src); `weights`: all
    contributions, a row for each firing and side in no particular order, -inf where there is no writer.
    """

    firings: FiringList
    products: Float[np.ndarray, "firing sv"]
    product_bound: Float[np.ndarray, "firing sv"]
    members: Bool[np.ndarray, "firing sv"]
    score_bound: Float[np.ndarray, " firing"]
    pattern_bound: Float[np.ndarray, " firing"]
    attn_scale: Float[np.ndarray, " firing"]
    explained: Float[np.ndarray, "side firing"]
    size: Float[np.ndarray, "side firing"]
    bound: Float[np.ndarray, "side firing"]
    weights: Float[np.ndarray, "row writer"]


@dataclass(frozen=True, eq=False)
class Case:
    """A whole model, prompts and settings.

    Args:
        model: raw or folded.
        prompts: as `svdtrace.trace` takes them, checked.
        config: by default `exact` with all writers, since only then contributions sum to what they explain.
        seed: of what laws draw.
    """

    model: Model
    prompts: tuple[Prompt, ...]
    config: TraceConfig = DEFAULTS
    seed: int = 0

    def put(self, **made: Any) -> Case:
        """The same case with other things in the place of what it would make: `case.put(trace=…)`."""
        other = replace(self)
        vars(other).update(made)
        return other

    def rng(self) -> np.random.Generator:
        """Draws that hang on the seed alone."""
        return np.random.default_rng(self.seed)

    @cached_property
    def processed(self) -> Model:
        """The model folded, or raw, in the dtype of the settings."""
        with precision(self.config):
            return jax.block_until_ready(processed(self.model, self.config))

    @cached_property
    def decomposition(self) -> Decomposition:
        """Of the processed model."""
        with precision(self.config):
            return decompose(self.processed)

    @cached_property
    def prepared(self) -> Prepared:
        """Ready to be traced."""
        with precision(self.config):
            return in_gauge(self.processed, self.decomposition)

    @cached_property
    def trace(self) -> Trace:
        """From all firings."""
        with precision(self.config):
            return trace_prepared(self.prepared, self.prompts, self.config)

    @cached_property
    def batch(self) -> Batch:
        """All prompts, padded to the longest."""
        longest = max(len(prompt.tokens) for prompt in self.prompts)
        size = 1 << (len(self.prompts) - 1).bit_length()
        (batch,) = batches(self.prompts, (longest,), size, self.model.config.n_heads, "cpu")
        return batch

    @property
    def mask(self) -> Bool[np.ndarray, "prompt tok"]:
        """Where the batch holds tokens of prompts."""
        return np.arange(self.batch.tokens.shape[1]) < self.batch.length[:, None]

    @property
    def pairs(self) -> Bool[np.ndarray, "prompt 1 dest src"]:
        """Pairs of tokens that attention may see."""
        both = self.mask[:, :, None] & self.mask[:, None, :]
        return np.tril(both)[:, None]

    @cached_property
    def observed(self) -> Observed:
        """What the pass that traces leaves of the batch."""
        with precision(self.config):
            return watch(self.prepared, self.batch, self.config)

    @cached_property
    def own(self) -> Run:
        """The forward pass of the processed model."""
        return run(self.processed, self.batch, self.mask)

    @cached_property
    def gauge(self) -> Run:
        """The same in the singular gauge."""
        return run(gauged(self.processed, self.decomposition), self.batch, self.mask)

    @cached_property
    def undecided(self) -> list[dict[str, int]]:
        """Pairs that fire or not according to rounding."""
        seen = self.observed
        with precision(self.config):
            near = pairs_of(self.prepared, seen, self.config)
        pairs = undecided_pairs(self.prepared, near, seen.sizes, self.batch.place, self.config)
        names = ("prompt", "layer", "head", "dest", "src")
        columns = [getattr(pairs, name).tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    @cached_property
    def relative(self) -> Tried:
        """Firings by relative attention, whatever the method of the settings."""
        with precision(self.config):
            return try_relative(self.prepared, self.batch, self.config)

    @cached_property
    def attribution(self) -> Attribution:
        """All firings, attributed."""
        with precision(self.config):
            firings = fired(pairs_of(self.prepared, self.observed, self.config), self.config)
            layers = range(1, self.model.config.n_layers)
            calls = [
                each
                for layer in layers
                for each in attributed(self.prepared, self.observed, firings, layer, self.config)
            ]
            return _attribution(self, firings, calls)


def run(model: Model, batch: Batch, mask: Bool[np.ndarray, "prompt tok"]) -> Run:
    """A forward pass over a batch with all taps that laws ask for."""
    out = gpt2jax.forward(model, batch.tokens, mask=mask, taps=TAPS)
    taps = {name.removeprefix("blocks.*."): np.asarray(tap) for name, tap in out.taps.items()}
    return Run(None if out.logits is None else np.asarray(out.logits), taps)


def _attribution(case: Case, firings: FiringList, calls: list[Any]) -> Attribution:
    """What came back for all calls, in the firings' order."""
    n_firings, n_values = len(firings), case.decomposition.S.shape[-1]
    products, members = np.zeros((n_firings, n_values), case.prepared.dtype), np.zeros((n_firings, n_values), bool)
    explained, size, bound = (np.zeros((2, n_firings)) for _ in range(3))
    weights = []
    for call in calls:
        filled = call.row >= 0
        rows, result = call.row[filled], call.result
        products[rows], members[rows] = np.asarray(result.products)[filled], np.asarray(result.slices.members)[filled]
        of_writers = np.asarray(result.weight)[:, filled]
        there = np.where(np.isfinite(of_writers), of_writers, 0).astype(np.float64)
        explained[:, rows], size[:, rows] = there.sum(axis=-1), np.abs(there).sum(axis=-1)
        bound[:, rows] = np.asarray(result.bound)[:, filled]
        weights.append(of_writers.reshape(-1, of_writers.shape[-1]))
    if not n_firings:
        none = np.zeros(0, products.dtype)
        return Attribution(
            firings, products, products, members, none, none, none, explained, size, bound, np.zeros((0, 1))
        )
    seen, at = case.observed, (firings.layer, firings.prompt)
    scale = np.asarray(case.prepared.score_scale)[firings.layer]
    scales = [each.scale for each in case.prepared.readers]
    root, turn = (np.stack([np.asarray(getattr(each, name)) for each in scales]) for name in ("root", "turn"))
    reader = (firings.layer - 1, firings.head)
    q = np.asarray(seen.q)[(*at, firings.dest, firings.head)]
    k = np.asarray(seen.k)[(*at, firings.src, firings.head)]
    q_size, k_sizes = (np.asarray(each) for each in (seen.sizes.q, seen.sizes.k))
    query, largest = q_size[(*at, firings.dest, firings.head)], np.maximum.accumulate(k_sizes, axis=2)
    first = root[reader][:, 0]
    of_row = score_bounds(query, largest[(*at, firings.dest, firings.head)], first, scale)
    return Attribution(
        firings=firings,
        products=products,
        product_bound=np.asarray(product_bounds(*map(jnp.asarray, (q, k, root[reader], turn[reader])))),
        members=members,
        score_bound=score_bounds(query, k_sizes[(*at, firings.src, firings.head)], first, scale),
        pattern_bound=pattern_bounds(firings.pattern, of_row, firings.dest + 1),
        attn_scale=scale,
        explained=explained,
        size=size,
        bound=bound,
        weights=np.concatenate([_widened(each, max(one.shape[1] for one in weights)) for each in weights]),
    )


def _widened(weights: np.ndarray, n_writers: int) -> np.ndarray:
    return np.pad(weights, ((0, 0), (0, n_writers - weights.shape[1])), constant_values=-np.inf)

"""What is measured under many sets of edges at once, in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.config import GPT2Config
from gpt2jax.params import Params
from svdtrace.faithfulness.editing import MEASURES, Ablation, Reading, edited_measures
from svdtrace.faithfulness.means import Means
from svdtrace.method.contributions import Reader

MOST_BYTES = 2**28
"""Of one compiled call's largest arrays, all sets together."""
MOST_SETS = 64


@dataclass(frozen=True)
class Bench:
    """A model ready to be edited, and its prompts in batches.

    `codes[l - 1]` are the writers below layer l; `places` where each batch's prompts stand among all; `shape` that of
    `Ablation.edges`.
    """

    config: GPT2Config
    params: Params
    readers: tuple[Reader, ...]
    means: Means
    codes: tuple[np.ndarray, ...]
    readings: tuple[Reading, ...]
    places: tuple[np.ndarray, ...]
    shape: tuple[int, ...]

    @property
    def n_prompts(self) -> int:
        """Prompts in all."""
        return sum(len(places) for places in self.places)


def measurements(
    bench: Bench,
    edges: Int[np.ndarray, "edge axis"],
    members: Bool[np.ndarray, "set edge"],
    kept: Bool[np.ndarray, " set"],
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "set measure prompt"]:
    """What every prompt gives under every set.

    Args:
        edges: where each candidate stands in `Ablation.edges`, one index an axis.
        members: the candidates that each set has.
        kept: whether nothing but the set is kept (True), or everything but the set (False).
        progress: called with sets done and sets in all, batches counted.
    """
    found = np.empty((len(members), len(MEASURES), bench.n_prompts))
    done, total = 0, len(members) * len(bench.readings)
    for reading, places in zip(bench.readings, bench.places, strict=True):
        size = min(len(members), sets_per_call(bench, reading))
        for chosen in _pieces(len(members), size):
            ablation = _ablation(bench, edges, members[chosen], kept[chosen])
            found[chosen[:, None], :, places] = np.asarray(
                _differences(bench.config, bench.params, bench.readers, bench.means, bench.codes, reading, ablation)
            ).transpose(0, 2, 1)[:, : len(places)]
            done += len(np.unique(chosen))
            if progress is not None:
                progress(min(done, total), total)
    return found


def attribution_scores(bench: Bench, edges: Int[np.ndarray, "edge axis"]) -> Float[np.ndarray, "measure edge"]:
    """Attribution patching: minus the slope of each measure's mean in the amount removed of each edge's signal.

    Positive where the signal helps.
    """
    total = np.zeros((len(MEASURES), *bench.shape))
    for reading in bench.readings:
        given = (bench.config, bench.params, bench.readers, bench.means, bench.codes, reading)
        total -= np.asarray(_slopes(*given, jnp.zeros(bench.shape, bench.means.z.dtype)))
    return total[(slice(None), *edges.T)] / bench.n_prompts


def sets_per_call(bench: Bench, reading: Reading) -> int:
    """How many sets one call takes: as many as keep its largest arrays within bounds."""
    config = bench.config
    per_token = bench.shape[-1] * config.d_model + 2 * config.n_heads * (bench.shape[-1] + config.d_model)
    per_set = reading.tokens.size * per_token * bench.means.z.dtype.itemsize
    return max(1, min(MOST_SETS, MOST_BYTES // per_set))


def _pieces(count: int, size: int) -> Iterator[np.ndarray]:
    """0 … count - 1 in pieces of one size; the last is filled up with what came before, so that no shape is new."""
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1)


def _ablation(bench: Bench, edges: np.ndarray, members: np.ndarray, kept: np.ndarray) -> Ablation:
    dtype = bench.means.z.dtype
    dense = np.zeros((len(members), *bench.shape), dtype)
    dense[(slice(None), *edges.T)] = members
    return Ablation(base=jnp.asarray(~kept, dtype), edges=jnp.asarray(dense))


@partial(jax.jit, static_argnames=("config",))
def _differences(
    config: GPT2Config,
    params: Params,
    readers: tuple[Reader, ...],
    means: Means,
    codes: Sequence[Array],
    reading: Reading,
    ablation: Ablation,
) -> Float[Array, "set measure prompt"]:
    run = partial(edited_measures, config, params, readers, means, tuple(codes), reading)
    return jax.vmap(run)(ablation)


@partial(jax.jit, static_argnames=("config",))
def _slopes(
    config: GPT2Config,
    params: Params,
    readers: tuple[Reader, ...],
    means: Means,
    codes: Sequence[Array],
    reading: Reading,
    edges: Float[Array, "role reader_layer side head writer"],
) -> Float[Array, "measure role reader_layer side head writer"]:
    def total(edges: Array) -> Array:
        ablation = Ablation(base=jnp.ones((), edges.dtype), edges=edges)
        found = edited_measures(config, params, readers, means, tuple(codes), reading, ablation)
        return jnp.sum(jnp.where(reading.answer >= 0, found, 0), axis=-1)

    return jax.jacrev(total)(edges)

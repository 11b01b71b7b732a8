"""Does an edge depend on what was chosen (METHOD.md, section 13)? Traces with other settings, and who is in them.

trace = svdtrace.trace(model, prompts)
svdtrace.stability(model, prompts, trace).edges["stability"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from gpt2jax.numerics import einsum
from gpt2jax.params import Model
from svdtrace.config import DYNAMIC, TraceConfig, check_seed
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.nulls.draws import close_groups, random_rotations
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import precision
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.rows import SIDES, WriterOrder
from svdtrace.tracing.tables import STABILITY
from svdtrace.tracing.trace import Progress, Trace, check_prompts, prepare_cached, trace_prepared

CLOSE = 1e-3
STEP = 0.02
WIDE_STEP = 0.05


@dataclass(frozen=True)
class Rerun:
    """A trace with something else: its name, its settings, whether nearly equal singular vectors are turned."""

    name: str
    config: TraceConfig
    turned: bool = False


def reruns(config: TraceConfig) -> list[Rerun]:
    """The reruns of section 13, eight for most settings; roots aside, since edges are judged firing by firing.

    τ goes both ways by 0.02, twice downwards where it would exceed 1 (0.98 and 0.96 for τ = 1); coverage and threshold
    both ways by 0.05 as far as they stay within 0 and 1; a dynamic threshold stays. The method `all` has no τ.
    """
    config = replace(config, roots="all")
    changed = [Rerun("float64", replace(config, dtype="float64"))] if config.dtype != "float64" else []
    up = config.tau + STEP <= 1
    steps = {"tau": (-STEP, STEP if up else -2 * STEP), "coverage": (-WIDE_STEP, WIDE_STEP)}
    if config.threshold != DYNAMIC:
        steps["threshold"] = (-WIDE_STEP, WIDE_STEP)
    for name, by in steps.items():
        for value in (round(getattr(config, name) + each, 10) for each in by):
            if 0 < value <= 1 and not (name == "tau" and config.method == "all"):
                changed.append(Rerun(f"{name}={value:g}", replace(config, **{name: value})))
    return [*changed, Rerun("turned", config, turned=True)]


def stability(
    model: Model, prompts: Iterable[Prompt], trace: Trace, *, seed: int = 0, progress: Progress | bool | None = None
) -> Trace:
    """The trace with a further column of its edges, `stability`: the share of reruns in which each is there.

    Args:
        model, prompts: what the trace is of.
        trace: its manifest says with which settings it was made.
        seed: of the turning of nearly equal singular vectors.
        progress: called with prompts done and to do, over all reruns. True shows a bar, in a terminal and in a
            notebook.

    Raises:
        SettingError, PromptError, ModelError: see `svdtrace.trace`.
    """
    check_seed(seed)
    prompts = check_prompts(model, prompts)
    config = TraceConfig.from_dict(trace.manifest["config"])
    order = WriterOrder.of(model.config.n_layers, model.config.n_heads)
    mine = edge_keys(trace.edges, order, model.config.n_ctx)
    there = np.zeros(len(mine))
    wanted, clock, shares = reruns(config), Clock(), {}
    with clock("stability"), progressing(progress, "tracing again") as told:
        for rerun, again in _rerun(model, prompts, wanted, seed, told):
            found = np.isin(mine, edge_keys(again.edges, order, model.config.n_ctx))
            shares[rerun.name] = round(float(found.mean()), 4) if len(mine) else None
            there += found
    share = pa.array(there / len(wanted), pa.float32())
    settled = {
        "reruns": [rerun.name for rerun in wanted],
        "edges_in": shares,
        "mean": round(float(there.mean() / len(wanted)), 4) if len(mine) else None,
        "in_all": int((there == len(wanted)).sum()),
        "seed": seed,
        "seconds": clock.rounded()["total"],
    }
    edges = trace.edges.append_column(
        STABILITY.with_metadata({**STABILITY.metadata, b"reruns": ", ".join(settled["reruns"])}), share
    )
    # METHOD.md, section 13: the settings are listed in the table's metadata.
    edges = edges.replace_schema_metadata(
        {**(edges.schema.metadata or {}), STABILITY.name: ", ".join(settled["reruns"])}
    )
    return replace(trace, edges=edges, manifest={**trace.manifest, STABILITY.name: settled})


def edge_keys(edges: pa.Table, order: WriterOrder, n_ctx: int) -> np.ndarray:
    """One integer for each edge: prompt, writer, reader, both tokens, side, and the token at which it wrote."""
    code = {name: at for at, name in enumerate(order.labels)}
    writers = edges["writer"].combine_chunks().dictionary_encode()
    named = np.asarray([code[each] for each in writers.dictionary.to_pylist()], np.int64)
    writer = named[writers.indices.to_numpy()] if len(named) else np.zeros(0, np.int64)
    side = (edges["side"].to_numpy() == SIDES[1]).astype(np.int64)
    key = edges["prompt"].to_numpy().astype(np.int64)
    names = ("layer", "head", "dest", "src", "token")
    layer, head, dest, src, token = (edges[name].to_numpy().astype(np.int64) for name in names)
    sizes = (len(order.labels), order.n_layers, order.n_heads, n_ctx, n_ctx, 2, n_ctx)
    for column, size in zip((writer, layer, head, dest, src, side, token), sizes, strict=True):
        key = key * size + column
    return key


def turned(decomposition: Decomposition, key: jax.Array) -> Decomposition:
    """The same Ω, singular vectors whose values lie within 1e-3 of a neighbour's turned at random within their span.

    In the singular gauge `q̂ R, k̂ R`, so that scores stay as they are to the last rounding: U becomes `U Σ^½ R Σ^-½`,
    V likewise, orthonormal to 1e-3.
    """
    S = decomposition.S
    groups = close_groups(S, CLOSE)
    root = jnp.sqrt(jnp.where(decomposition.within_rank(), S, 0))
    # Beyond the rank nothing is read; there each vector stays as it is.
    groups = jnp.where(decomposition.within_rank(), groups, S.shape[-1] + jnp.arange(S.shape[-1])[None, None])
    keys = [jax.random.fold_in(key, layer) for layer in range(S.shape[0])]
    first = np.zeros(1, np.int32)
    R = jnp.stack([random_rotations(each, first, its, S.dtype)[0] for each, its in zip(keys, groups, strict=True)])

    def turn(vectors: jax.Array) -> jax.Array:
        inverse = jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)
        mixed = einsum("lndk,lnkm->lndm", vectors * root[..., None, :], R) * inverse[..., None, :]
        return jnp.where((root > 0)[..., None, :], mixed, vectors)

    return Decomposition(U=turn(decomposition.U), S=S, V=turn(decomposition.V))


def _rerun(
    model: Model, prompts: Sequence[Prompt], wanted: Sequence[Rerun], seed: int, progress: Progress | None
) -> Iterator[tuple[Rerun, Trace]]:
    ready: dict[Any, Prepared] = {}
    for at, rerun in enumerate(wanted):
        told = None if progress is None else partial(_told, progress, at, len(wanted))
        with precision(rerun.config):
            which = rerun.config.dtype, rerun.turned
            if which not in ready:
                ready[which] = _prepared(model, rerun, seed)
            yield rerun, trace_prepared(ready[which], prompts, rerun.config, progress=told)


def _prepared(model: Model, rerun: Rerun, seed: int) -> Prepared:
    if not rerun.turned:
        return prepare_cached(model, rerun.config)
    return prepare(model, rerun.config, lambda each: turned(decompose(each), jax.random.key(seed)))


def _told(progress: Callable[[int, int], None], at: int, reruns: int, done: int, total: int) -> None:
    progress(at * total + done, reruns * total)

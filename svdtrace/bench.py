"""How fast the tracer is, measured against the plain forward pass and against dense SVDs in the same run."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed
from gpt2jax.params import Model
from gpt2jax.random import random_model
from gpt2jax.sites import Passage
from svdtrace.batching import automatic_batch_size
from svdtrace.config import TraceConfig
from svdtrace.decomposition import decompose, query_key_factors
from svdtrace.prepare import prepare, processed
from svdtrace.prompts.prompt import Prompt
from svdtrace.trace_folder import write_tables
from svdtrace.tracing import Clock, trace_prepared
from svdtrace.versions import versions

GPT2_SMALL = GPT2Config(n_layers=12, n_heads=12, d_model=768, d_mlp=3072, n_ctx=1024, d_vocab=50257)
PROMPTS, TOKENS, FIRINGS = 256, 21, 60
Progress = Callable[[int, int], None]


def run(model: Model | None = None, full: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Measure.

    Args:
        model: by default random weights of GPT-2 small's shape, queries and keys scaled to about 60 firings a prompt.
        full: seven runs of everything instead of three.
        progress: called with steps done and steps in all.

    Returns:
        `trace_ratio` (a trace of 256 prompts of 21 tokens, `--roots all`, tables written, over the plain forward pass:
        blocks only, no unembedding, no taps), `decomposition_ratio` (dense SVDs of all heads' Ω by LAPACK over
        `svdtrace.decompose`), medians of this run; device, cores, sizes and seconds of each stage.
    """
    repeats = 7 if full else 3
    steps = 3 * repeats + 3
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    prompts = random_prompts(GPT2_SMALL if model is None else model.config)
    gain = None
    if model is None:
        model, gain = firing_model(GPT2_SMALL, prompts[:16])
    config = TraceConfig()
    folded = processed(model, config)
    step()
    decomposition = _seconds(lambda: decompose(folded), repeats, step)
    dense = _seconds(partial(_dense_svds, folded), 1, step)
    plain, traced, firings, stages = _forward_and_trace(folded, prompts, config, repeats, step)
    device = jax.local_devices()[0]
    return {
        "trace_ratio": statistics.median(traced) / statistics.median(plain),
        "decomposition_ratio": statistics.median(dense) / statistics.median(decomposition),
        "device": device.device_kind,
        "platform": device.platform,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "prompts": len(prompts),
        "tokens": len(prompts[0].tokens),
        "firings_per_prompt": firings / len(prompts),
        "query_key_gain": gain,
        "stages": {
            "forward": _summary(plain),
            "trace": _summary(traced),
            "decomposition": _summary(decomposition),
            "dense_svds": _summary(dense),
            **{f"trace.{name}": _summary(seconds) for name, seconds in stages.items()},
        },
        **versions(),
    }


def random_prompts(config: GPT2Config, count: int = PROMPTS, length: int = TOKENS) -> list[Prompt]:
    """Prompts of random tokens, all of one length."""
    length = min(length, config.n_ctx)
    tokens = np.random.default_rng(0).integers(0, config.d_vocab, (count, length))
    return [Prompt(id=None, tokens=tuple(row), strings=tuple(map(str, row))) for row in tokens.tolist()]


def firing_model(config: GPT2Config, prompts: list[Prompt], firings: int = FIRINGS) -> tuple[Model, float]:
    """A random model whose queries and keys are scaled until about `firings` a prompt occur.

    Unscaled, attention is nearly even, and heads fire at token 1 alone.
    """
    model = random_model(config, jax.random.key(0))
    low, high = 0.0, 5.0
    for _ in range(8):
        middle = (low + high) / 2
        found = _firings_per_prompt(_sharpened(model, 2**middle), prompts)
        low, high = (middle, high) if found < firings else (low, middle)
    return _sharpened(model, 2**high), 2**high


def _sharpened(model: Model, gain: float) -> Model:
    blocks = model.params.blocks
    blocks = replace(blocks, W_Q=blocks.W_Q * gain, W_K=blocks.W_K * gain)
    return replace(model, params=replace(model.params, blocks=blocks))


def _firings_per_prompt(model: Model, prompts: list[Prompt]) -> float:
    """How many pairs fire at the default settings, counted without tracing them."""
    tokens = np.asarray([prompt.tokens for prompt in prompts], np.int32)
    return float(_count_firings(model.config, model.params, tokens)) / len(prompts)


@partial(jax.jit, static_argnums=0)
def _count_firings(config: GPT2Config, params: Any, tokens: Array) -> Array:
    def fired(seen: dict[str, Array]) -> Array:
        pattern, score = seen["attn.hook_pattern"], seen["attn.hook_attn_scores"]
        return jnp.sum((pattern >= 0.5) & (score >= 0) & (jnp.arange(tokens.shape[1]) > 0))

    mask = attention_mask(jnp.ones(tokens.shape, bool))
    counts = run_blocks(config, params.blocks, _first_residual(params, tokens), mask, observe=fired)[1]
    return jnp.sum(jnp.asarray(counts)[1:])


def _first_residual(params: Any, tokens: Array) -> Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return embed(params, tokens, positions, Passage({}))


@partial(jax.jit, static_argnums=0)
def plain_forward(config: GPT2Config, params: Any, tokens: Array) -> Array:
    """The blocks alone, [prompt tok d_model]: no unembedding, no taps; what other costs are measured against."""
    mask = attention_mask(jnp.ones(tokens.shape, bool))
    return run_blocks(config, params.blocks, _first_residual(params, tokens), mask)[0]


def _forward_and_trace(
    model: Model, prompts: list[Prompt], config: TraceConfig, repeats: int, step: Callable[[], None]
) -> tuple[list[float], list[float], int, dict[str, list[float]]]:
    """Seconds of both, taken in turn so that what else the machine does hits both; each once before, to compile."""
    prepared = prepare(model, config)
    tokens = np.asarray([prompt.tokens for prompt in prompts], np.int32)
    size = automatic_batch_size(tokens.shape[1], model.config.n_heads, jax.local_devices()[0].platform)
    batches = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    stages: dict[str, list[float]] = {}
    n_firings = 0

    def plain() -> None:
        for batch in batches:
            jax.block_until_ready(plain_forward(model.config, model.params, batch))

    def traced() -> None:
        nonlocal n_firings
        clock = Clock()
        result = trace_prepared(prepared, prompts, config, clock=clock)
        with tempfile.TemporaryDirectory() as folder, clock("write"):
            write_tables(result, Path(folder))
        n_firings = result.firings.num_rows
        for name, seconds in clock.seconds.items():
            stages.setdefault(name, []).append(seconds)

    plain()
    traced()
    stages.clear()
    step()
    both = [(_seconds(plain, 1, step)[0], _seconds(traced, 1, step)[0]) for _ in range(repeats)]
    return [each[0] for each in both], [each[1] for each in both], n_firings, stages


def _dense_svds(model: Model) -> None:
    """What the decomposition replaces: one dense SVD of every head's (d+1) × (d+1) matrix, by LAPACK."""
    A, B = (np.asarray(factor) for factor in query_key_factors(model.params.blocks))
    for layer in range(A.shape[0]):
        for head in range(A.shape[1]):
            np.linalg.svd(A[layer, head] @ B[layer, head].T)


def _seconds(work: Callable[[], Any], repeats: int, step: Callable[[], None]) -> list[float]:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(work())
        taken.append(time.perf_counter() - start)
        step()
    return taken


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}

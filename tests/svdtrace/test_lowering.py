"""Every compiled function lowers for TPUs and NVIDIA GPUs, in the precision that the bounds of METHOD.md need."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from small_model import jax_model, random_tokens, small_model

import gpt2jax
from svdtrace import decomposition, pipeline, prepare, roots
from svdtrace.attribute import Blocks, attribute, collect, in_blocks
from svdtrace.batching import batches
from svdtrace.config import TraceConfig
from svdtrace.firings import candidates_per_destination, list_firings
from svdtrace.observe import observe
from svdtrace.prompts.prompt import Prompt

PLATFORMS = ("tpu", "cuda")
# What a platform's own compiler or libraries provide; anything else would need code of ours, or the host.
ALLOWED = {
    "tpu": r"Qr|Eigh|ProductOfElementaryHouseholderReflectors|Sharding|SPMD\w+",
    "cuda": r"(cusolver|cublas)_\w+|cu_\w+|Sharding|SPMD\w+",
}
N_TOKENS = 6
Lowered = Callable[[str], str]


def prompts(config: Any) -> list[Prompt]:
    rows = random_tokens(4, N_TOKENS, {"d_vocab": config.d_vocab})
    return [Prompt(None, tuple(row), tuple(map(str, row)), {"end": 4}, 1, 2) for row in rows.tolist()]


def lowered(function: Any, *args: Any, **options: Any) -> Lowered:
    """The program of a jitted function for a platform, as text."""
    leaves, tree = jax.tree.flatten(args)
    is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]

    # Arrays alone as arguments: what export puts in their place would not pass the checks of our own pytrees.
    def flat(*arrays: jax.Array) -> Any:
        given = iter(arrays)
        return function(
            *tree.unflatten(next(given) if each else leaf for each, leaf in zip(is_array, leaves, strict=True)),
            **options,
        )

    arrays = [leaf for each, leaf in zip(is_array, leaves, strict=True) if each]
    return lambda platform: str(export.export(jax.jit(flat), platforms=[platform])(*arrays).mlir_module())


def traced_programs(processing: str, method: str, writers: str) -> dict[str, Lowered]:
    """The programs of a trace."""
    params, shape = small_model(n_layers=2)
    config = TraceConfig(processing=processing, method=method, writers=writers, threshold=0.3)
    prepared = prepare.prepare(jax_model(params, shape), config)
    model = prepared.model
    (batch,) = batches(prompts(model.config), (N_TOKENS,), "auto", model.config.n_heads, "cpu")
    looking = (model.config, model.params, batch.tokens, batch.length, batch.last, np.float32(0))
    count = candidates_per_destination(config.threshold, N_TOKENS)
    all_writers = writers == "all"
    watch = {"count": count, "skip_first": True, "all_writers": all_writers}
    observed = observe(*looking, **watch)
    programs = {"observe": lowered(observe, *looking, **watch)}
    programs |= _attributing(prepared, observed, config, all_writers)
    programs["cores"] = lowered(prepare._cores, model.params.blocks.W_O[:1], prepared.readers[0].weights)
    asked = (batch.answer, batch.distractor)
    programs["logit_difference"] = lowered(pipeline.logit_difference, model.params, observed.final_read, *asked)
    heads = (model.params, observed, batch.last, *asked, np.float32(0.7))
    programs["logit_heads"] = lowered(roots.logit_heads, *heads, n_heads=model.config.n_heads)
    return programs


def _attributing(prepared: Any, observed: Any, config: TraceConfig, all_writers: bool) -> dict[str, Lowered]:
    firings = list_firings(observed.candidates, config.threshold)
    slots, heads = in_blocks(np.arange(len(firings)), firings.head)
    row, head, sides = np.maximum(slots[0], 0), heads[0], ("dest", "src")
    blocks = Blocks(prompt=firings.prompt[row], dest=firings.dest[row], src=firings.src[row], head=head)
    layer = np.int32(1)
    gathered = collect(observed, blocks, layer, n_layers=1, sides=sides)
    run = (gathered, slots[0] >= 0, head, layer, prepared.readers[0], prepared.cores(1))
    b_O = prepared.model.params.blocks.b_O[:1]
    options = {"method": config.method, "sides": sides, "all_writers": all_writers}
    return {
        "collect": lowered(collect, observed, blocks, layer, n_layers=1, sides=sides),
        "attribute": lowered(attribute, *run, b_O, np.float32(1), np.float32(0.7), **options),
    }


def model_programs() -> dict[str, Lowered]:
    """Programs of the model and of its decomposition."""
    params, shape = small_model(n_layers=2)
    model = jax_model(params, shape)
    tokens = random_tokens(2, N_TOKENS, shape)
    forward = partial(gpt2jax.forward, taps=["blocks.*.attn.hook_result", "blocks.1.hook_resid_post"])
    A, B = decomposition.query_key_factors(model.params.blocks)
    stacked = jnp.stack([A, B])
    Q, R = decomposition.orthogonalise(stacked)
    core = decomposition._core_svd(R[0], R[1])
    flat = stacked.reshape(-1, *stacked.shape[-2:])
    return {
        "forward": lowered(jax.jit(lambda tokens: forward(model, tokens).logits), tokens),
        "residual": lowered(jax.jit(lambda tokens: gpt2jax.residual_contributions(model, tokens).values), tokens),
        "cholesky_qr": lowered(decomposition._cholesky_qr, stacked),
        "householder": lowered(decomposition._householder, flat),
        "project": lowered(decomposition._project, Q, stacked),
        "core_svd": lowered(decomposition._core_svd, R[0], R[1]),
        "assembled": lowered(decomposition._assembled, Q, *core),
    }


def faults(text: str, platform: str, *, own_dots: bool = True) -> list[str]:
    """What in a lowered program breaks the promises; JAX's own linear algebra sets its precision itself."""
    dots = re.findall(r"stablehlo\.dot_general[^\n]*", text)
    found = [dot for dot in dots if own_dots and "precision = [HIGHEST, HIGHEST]" not in dot]
    found += re.findall(r"tensor<(?:[0-9?]+x)*f64>[^\n]*", text)
    found += [
        target
        for target in re.findall(r"stablehlo\.custom_call @([\w.$]+)", text)
        if not re.fullmatch(ALLOWED[platform], target)
    ]
    return found + re.findall(r"[^\n]*callback[^\n]*", text)


@pytest.mark.parametrize(
    ("processing", "method", "writers"),
    [("folded", "exact", "heads"), ("folded", "exact", "all"), ("raw", "paper", "heads"), ("folded", "all", "heads")],
)
def test_tracing_lowers(processing: str, method: str, writers: str):
    for name, program in traced_programs(processing, method, writers).items():
        for platform in PLATFORMS:
            text = program(platform)
            assert not faults(text, platform), (name, platform)
            # Where there is arithmetic on matrices there are dots to look at.
            assert name == "collect" or "stablehlo.dot_general" in text or name == "logit_difference", name


def test_the_model_and_its_decomposition_lower():
    for name, program in model_programs().items():
        for platform in PLATFORMS:
            assert not faults(program(platform), platform, own_dots=name not in ("core_svd", "householder")), name


def test_a_dot_in_default_precision_is_seen():
    text = lowered(jax.jit(lambda x: x @ x), jnp.ones((3, 3), jnp.float32))("tpu")
    assert any("dot_general" in each for each in faults(text, "tpu"))


def test_a_call_that_is_not_allowed_is_seen():
    # No callback lowers for a platform that is not here; a CPU library's call stands for all that is not allowed.
    text = str(export.export(jax.jit(jnp.linalg.qr), platforms=["cpu"])(jnp.ones((3, 3), jnp.float32)).mlir_module())
    assert any("lapack" in each for each in faults(text, "tpu"))


def test_float64_is_seen():
    with jax.enable_x64(True):
        text = lowered(jax.jit(lambda x: x * 2), jnp.ones((3, 3), jnp.float64))("tpu")
    assert faults(text, "tpu")

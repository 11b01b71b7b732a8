"""Every compiled function lowers for TPUs and NVIDIA GPUs, in the precision that the bounds of METHOD.md need.

The project's own commands are run on a small model; what they compile is remembered, and lowered for other platforms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import compiled_functions
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from compiled_functions import Programs, program, recording
from small_model import jax_model, random_tokens, small_model

import gpt2jax
import svdtrace
from gpt2jax import edits
from svdtrace import bench, patching
from svdtrace.atlas.mapping import write_atlas
from svdtrace.bench import roof, subject
from svdtrace.faithfulness.measured import Settings
from svdtrace.method import decomposition
from svdtrace.nulls import stability
from svdtrace.prompts import Prompt
from svdtrace.tracing import sharding
from svdtrace.tracing.attribute import Blocks
from svdtrace.tracing.batching import batches
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import prepare
from weights_tools.training.recipe import Recipe
from weights_tools.training.updates import train

pytestmark = pytest.mark.unoptimised  # what is lowered is what JAX hands to any compiler
PLATFORMS = ("tpu", "cuda")
# What a platform's own compiler or libraries provide; anything else would need code of ours, or the host.
ALLOWED = {
    "tpu": r"Qr|Eigh|ProductOfElementaryHouseholderReflectors|Sharding|SPMD\w+",
    "cuda": r"(cusolver|cublas)_\w+|cu_\w+|Sharding|SPMD\w+",
}
# JAX's own linear algebra sets the precision of its dots itself.
WITHOUT_OWN_DOTS = ("svdtrace.method.decomposition._core_svd", "svdtrace.method.decomposition._householder")
N_TOKENS = 6


@cache
def model() -> gpt2jax.Model:
    return jax_model(*small_model(n_layers=2))


@cache
def prompts() -> tuple[Prompt, ...]:
    rows = random_tokens(4, N_TOKENS, {"d_vocab": model().config.d_vocab})
    roles = {"A": 1, "B": 2, "end": 4}
    return tuple(Prompt(None, tuple(row), tuple(map(str, row)), roles, 1, 2) for row in rows.tolist())


def settings(**chosen: Any) -> svdtrace.TraceConfig:
    return svdtrace.TraceConfig(threshold=0.3, **chosen)


def run_model() -> None:
    tokens = random_tokens(2, N_TOKENS, {"d_vocab": model().config.d_vocab})
    gpt2jax.forward(model(), tokens, taps=["blocks.*.attn.hook_result", "blocks.1.hook_resid_post"])
    gpt2jax.forward(gpt2jax.fold(model()), tokens)
    gpt2jax.generate(model(), tokens, 1)
    gpt2jax.generate(model(), tokens, 1, temperature=1.0, key=jax.random.key(0))


def run_public_functions() -> None:
    """What is compiled where its caller compiles it."""
    tokens = random_tokens(2, N_TOKENS, {"d_vocab": model().config.d_vocab})
    folded = jax.jit(lambda params: gpt2jax.fold(replace(model(), params=params)).params)(model().params)
    parts = jax.jit(lambda tokens: gpt2jax.residual_contributions(model(), tokens))(tokens)
    direction = jax.jit(lambda answer: gpt2jax.logit_direction(model(), answer, answer + 1))(tokens[:, 0])
    jax.jit(lambda parts, direction: gpt2jax.logit_effects(model(), parts, direction))(parts, direction)
    jax.jit(lambda tokens: gpt2jax.forward(model(), tokens, hooks={"blocks.1.attn.hook_z": edits.zero()}).logits)(
        tokens
    )
    found = svdtrace.decompose(replace(model(), params=folded, processing="folded"))
    jax.jit(lambda found: stability.turned(found, jax.random.key(0)))(found)


def run_decomposition() -> None:
    svdtrace.decompose(gpt2jax.fold(model()))
    # Columns that are all but the same take the longer way.
    factors = jnp.ones((1, 1, 5, 3), jnp.float32)
    decomposition.orthogonalise(factors)


def run_trace() -> None:
    svdtrace.trace(model(), prompts(), settings(writers="all", roots="logit"))


def run_methods() -> None:
    for chosen in ({}, {"method": "paper", "processing": "raw"}, {"method": "all"}):
        svdtrace.trace(model(), prompts(), settings(**chosen))


def run_relative() -> None:
    for chosen in (
        {"roots": "logit"},
        {"select": "until", "keys": "all", "roots": "probability", "targets": "top-p 0.5"},
    ):
        svdtrace.trace(model(), prompts(), settings(method="relative", **chosen))
    rows = random_tokens(2, 2 * N_TOKENS, {"d_vocab": model().config.d_vocab})
    more = [Prompt(None, tuple(row), tuple(map(str, row)), {}) for row in rows.tolist()]
    # More sources can reach it at once than the pass keeps.
    svdtrace.trace(model(), more, replace(settings(method="relative"), threshold=0.05))
    svdtrace.relative_weights([1.0, 0.0, 2.0], 1)


def run_on_a_mesh() -> None:
    config = settings()
    prepared = prepare(model(), config)
    (batch,) = batches(prompts(), (N_TOKENS,), "auto", model().config.n_heads, "cpu")
    place = np.zeros((1, 2), np.int32)
    blocks = Blocks(prompt=place, dest=place + 2, src=place + 1, head=np.zeros(1, np.int32))
    mesh = sharding.device_mesh(jax.local_devices()[:1])
    observed = watch(prepared, batch, config)
    sides = ("dest", "src")
    sharding._mapped.cache_clear()
    collected = sharding.collect_by_device(observed, blocks, np.int32(1), mesh, n_layers=1, sides=sides)
    given = (np.int32(1), prepared.readers[0], prepared.cores(1), prepared.model.params.blocks.b_O)
    options = {"method": "exact", "sides": sides, "all_writers": False}
    share = np.float32(0.7)
    sharding.attribute_by_device(
        collected, np.ones((1, 2), bool), blocks.head, *given, share, share, mesh=mesh, **options
    )
    sharding._mapped.cache_clear()
    # Models too large for all cores at once make a layer's anew.
    replace(prepared, held_cores=None).cores(1)


def run_nulls() -> None:
    for chosen in ({}, {"method": "paper"}, {"method": "relative"}):
        svdtrace.chance(model(), prompts(), settings(**chosen), nulls=2)


def run_characterise() -> None:
    svdtrace.characterise(model(), prompts(), prompts()[:2], settings())


def run_circuit() -> None:
    traced = svdtrace.trace(model(), prompts(), settings(writers="all"))
    svdtrace.circuit(model(), traced, Settings(points=2, seeds=1, patched=2))


def run_interventions() -> None:
    traced = svdtrace.trace(model(), prompts(), settings(writers="all"))
    rows = traced.edges.filter(pc.invert(pc.is_in(traced.edges["writer"], pa.array(["const", "attn_bias.0"]))))
    edges = ["{writer}:{layer}.{head}@{dest}:{src}/{side}".format(**row) for row in rows.to_pylist()]
    config = svdtrace.InterventionConfig(control="random")
    svdtrace.intervene(model(), prompts(), edges[:6], config, tracing=settings())


def run_patching() -> None:
    tokens = random_tokens(2, N_TOKENS, {"d_vocab": model().config.d_vocab})
    gpt2jax.forward(model(), tokens, hooks={"blocks.1.attn.hook_z": (jnp.multiply, jnp.float32(0))})
    gpt2jax.patch(model(), tokens, tokens[::-1], "blocks.*.attn.hook_z", _first_logit)
    patching.patch_prompts(model(), prompts(), prompts()[::-1])


def _first_logit(logits: jax.Array) -> jax.Array:
    return logits[:, -1, 0]


def run_atlas() -> None:
    with TemporaryDirectory() as folder:
        write_atlas(model(), folder)


def run_comparison() -> None:
    svdtrace.compare(model(), prompts(), settings(method="relative"), draws=2)


def run_laws() -> None:
    svdtrace.testing.verify(model(), prompts())


def run_bench() -> None:
    config = model().config
    subject.firings_per_prompt(model(), prompts())
    roof.measured_peaks(matmul=8, triad=8)
    bench.plain_forward(config, model().params, random_tokens(2, N_TOKENS, {"d_vocab": config.d_vocab}))


def run_training() -> None:
    # The optimiser, which is not ours, mixes types.
    with jax.numpy_dtype_promotion("standard"):
        train(Recipe(steps=1, rows=2, n_layers=1, n_heads=2, d_model=8, n_ctx=32, warm_up=1))


OFTEN = (run_model, run_decomposition, run_trace, run_methods, run_relative)
LONG = (run_public_functions, run_on_a_mesh, run_bench, run_nulls, run_characterise, run_circuit)
RUNS = (*OFTEN, *LONG, run_interventions, run_patching, run_atlas, run_comparison, run_laws, run_training)


# Run in float64 alone, and so on the CPU.
FLOAT64 = {f"svdtrace.testing.precisions.{name}" for name in ("_along", "_derivative")}


@cache
def programs_of(run: Callable[[], None]) -> Programs:
    with recording() as programs:
        run()
    return programs


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


@pytest.mark.full
@pytest.mark.parametrize("run", [pytest.param(run, marks=[pytest.mark.whole] * (run in OFTEN)) for run in RUNS])
def test_what_a_run_compiles_lowers(run: Callable[[], None]):
    programs = programs_of(run)
    assert programs
    for (name, _), its_program in programs.items():
        for platform in PLATFORMS:
            with jax.numpy_dtype_promotion("standard"):
                text = its_program(platform)
            assert not faults(text, platform, own_dots=name not in WITHOUT_OWN_DOTS), (name, platform)


@pytest.mark.full
def test_every_compiled_function_is_run():
    run = {name for each in RUNS for name, _ in programs_of(each)}
    ours = compiled_functions.compiled_functions() - FLOAT64
    assert {name for name in run if compiled_functions.is_ours(name)} == ours


def test_a_dot_in_default_precision_is_seen():
    text = program(jax.jit(lambda x: x @ x), jnp.ones((3, 3), jnp.float32))("tpu")
    assert any("dot_general" in each for each in faults(text, "tpu"))


def test_a_call_that_is_not_allowed_is_seen():
    # No callback lowers for a platform that is not here; a CPU library's call stands for all that is not allowed.
    text = program(jax.jit(jnp.linalg.qr), jnp.ones((3, 3), jnp.float32))("cpu")
    assert any("lapack" in each for each in faults(text, "tpu"))


def test_float64_is_seen():
    with jax.enable_x64(True):
        text = program(jax.jit(lambda x: x * 2), jnp.ones((3, 3), jnp.float64))("tpu")
    assert faults(text, "tpu")

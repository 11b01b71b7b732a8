"""A model made ready to be traced: folded or raw, in the dtype asked for, in the singular gauge, with its readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from gpt2jax.activations import activation
from gpt2jax.blocks import attn_scale
from gpt2jax.config import GPT2Config
from gpt2jax.fold import fold
from gpt2jax.numerics import compute_dtype
from gpt2jax.params import Blocks, Model
from svdtrace.config import TraceConfig
from svdtrace.errors import ModelError, SettingError
from svdtrace.method.bounds import rounding_scale
from svdtrace.method.contributions import Reader, composition_cores, reader, writing_grams
from svdtrace.method.decomposition import (
    Decomposition,
    decompose,
    gauge_weights,
    query_key_factors,
    singular_gauge,
)
from svdtrace.tracing.devices import usable_cores
from svdtrace.tracing.sharding import PROMPT, replicate, spread_params

# Composition cores of all layers are held when they fit here; beyond it (GPT-2 large and XL) each layer's are made anew
# for every batch.
MOST_CORE_BYTES = 2**31
# Readers of a shallow model share a program: compiling another would take longer than all its masked writers.
MOST_PROGRAMS, LEAST_LAYERS = 4, 2
MOST_THREADS = 8


@dataclass(frozen=True)
class Prepared:
    """`model` computes in the singular gauge; `readers[l - 1]` and `cores[l - 1]` belong to layer l ≥ 1; `score_scale`
    is the factor between q·k and the score; `sample`: A, B, U, S, V of `sampled_heads`; `grams`: see
    `svdtrace.method.contributions.writing_grams`.
    """

    model: Model
    decomposition: Decomposition
    score_scale: Float[Array, " layer"]
    sample: tuple[Array, ...]
    readers: tuple[Reader, ...]
    grams: Float[Array, "layer gain head d_head d_head"]
    held_cores: tuple[Array, ...] | None
    fingerprint: str = ""
    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """Over how many devices a batch's prompts are spread."""
        return 1 if self.mesh is None else self.mesh.shape[PROMPT]

    @property
    def platform(self) -> str:
        """What it runs on: `cpu`, `gpu`, `tpu`."""
        return next(iter(self.decomposition.S.devices())).platform

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of activations and products: float32 for bfloat16 weights too."""
        return self.decomposition.S.dtype

    @property
    def threads(self) -> int:
        """How many threads may hand work to the devices at the same time.

        A CPU does what one thread hands over in its order, and many small products leave cores idle. Accelerators keep
        themselves busy, devices of a mesh must all get their programs in one order, and cores made anew for every batch
        would be in memory together.
        """
        alone = self.platform != "cpu" or self.mesh is not None or self.held_cores is None
        return 1 if alone else min(usable_cores(), MOST_THREADS)

    def cores(self, layer: int) -> Array:
        """The composition cores of one layer's readers with the heads of all `writer_layers` below it."""
        if self.held_cores is not None:
            return self.held_cores[layer - 1]
        written = self.model.params.blocks.W_O[: writer_layers(layer, self.model.config.n_layers)]
        return _cores(written, self.readers[layer - 1].weights)


def writer_layers(layer: int, n_layers: int) -> int:
    """How many layers of writers are gathered for a reader's layer: at least those below it.

    Few different numbers, so that few programs are compiled.
    """
    step = max(LEAST_LAYERS, -(-(n_layers - 1) // MOST_PROGRAMS))
    return min(n_layers - 1, -(-layer // step) * step)


def spread(prepared: Prepared, mesh: Mesh | None) -> Prepared:
    """The same, put on a mesh of several devices; a single one needs none."""
    if mesh is None or mesh.size == 1:
        return prepared
    model = replace(prepared.model, params=spread_params(prepared.model.params, mesh))
    readers, grams, cores = replicate((prepared.readers, prepared.grams, prepared.held_cores), mesh)
    return replace(prepared, model=model, readers=readers, grams=grams, held_cores=cores, mesh=mesh)


def processed(model: Model, config: TraceConfig) -> Model:
    """The model under the config's `processing` and `dtype`.

    Raises:
        SettingError: raw asked of a folded model.
        ModelError: the model cannot run a forward pass.
        ConfigError: its activation function is not known.
    """
    params = model.params
    if params.W_E is None or params.blocks.W_in is None or params.blocks.W_out is None:
        raise ModelError("tracing needs a whole model, but this one holds a part of its weights; load it whole")
    activation(model.config.activation)
    if config.processing == "raw" and model.processing == "folded":
        raise SettingError('processing is "raw", but the model is folded already; load it with processing="raw"')
    # Folding is done in the finer of float32 and the dtype asked for; bfloat16 rounds the folded weights once.
    dtype = jnp.dtype(config.dtype)
    model = _cast(model, dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32))
    return _cast(fold(model) if config.processing == "folded" else model, dtype)


def _cast(model: Model, dtype: jnp.dtype) -> Model:
    return replace(model, params=jax.tree.map(lambda array: jnp.asarray(array, dtype), model.params))


def prepare(model: Model, config: TraceConfig, decomposer: Callable[[Model], Decomposition] = decompose) -> Prepared:
    """Make a model ready. `decomposer` gets it as processed, which the device may still be at.

    Raises:
        SettingError, ModelError: see `processed`.
    """
    model = processed(model, config)
    return in_gauge(model, decomposer(model))


def in_gauge(model: Model, decomposition: Decomposition) -> Prepared:
    """A processed model, ready by its own decomposition."""
    hold = _core_bytes(model) <= MOST_CORE_BYTES
    gauge, readers, grams, cores, scale, sample = _ready(model.config, model.params.blocks, decomposition, hold=hold)
    blocks = replace(model.params.blocks, **gauge)
    return Prepared(
        model=replace(model, params=replace(model.params, blocks=blocks)),
        decomposition=decomposition,
        score_scale=scale,
        sample=sample,
        readers=readers,
        grams=grams,
        held_cores=cores,
    )


@partial(jax.jit, static_argnames=("config", "hold"))
def _ready(
    config: GPT2Config, blocks: Blocks, decomposition: Decomposition, *, hold: bool
) -> tuple[dict[str, Array], tuple[Reader, ...], Array, tuple[Array, ...] | None, Array, tuple[Array, ...]]:
    """Queries and keys in the singular gauge, readers, Gram matrices, the readers' cores if they are to be held, the
    scores' scale and a few heads' factors: one program, since compiling (or reading) one for every step would take
    longer than the steps.
    """
    A, B = singular_gauge(decomposition)
    bounds = rounding_scale(decomposition)

    def of_layer(layer: int) -> Reader:
        return reader(blocks, A[layer], B[layer], jax.tree.map(lambda each: each[layer], bounds), layer)

    readers = tuple(of_layer(layer) for layer in range(1, config.n_layers))
    cores = tuple(
        composition_cores(blocks.W_O[: writer_layers(layer, config.n_layers)], each.weights)
        for layer, each in enumerate(readers, 1)
    )
    scale = jnp.stack([attn_scale(config, layer, A.dtype) for layer in range(config.n_layers)])
    grams = writing_grams(blocks, A.dtype)
    at = tuple(np.asarray(sampled_heads(config)).T)
    sample = tuple(each[at] for each in (*query_key_factors(blocks), decomposition.U, decomposition.S, decomposition.V))
    return gauge_weights(decomposition), readers, grams, cores if hold else None, scale, sample


def sampled_heads(config: GPT2Config) -> list[tuple[int, int]]:
    """The heads whose factors a prepared model keeps, (layer, head): the first, one in the middle, the last."""
    n_layers, n_heads = config.n_layers, config.n_heads
    return [(0, 0), (n_layers // 2, n_heads // 2), (n_layers - 1, n_heads - 1)]


def _core_bytes(model: Model) -> int:
    config = model.config
    pairs = config.n_heads**2 * sum(writer_layers(layer, config.n_layers) for layer in range(1, config.n_layers))
    return 2 * pairs * config.d_head**2 * compute_dtype(model.params.blocks.W_O).itemsize


_cores = jax.jit(composition_cores)

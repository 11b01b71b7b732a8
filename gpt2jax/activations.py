"""The MLP's activation functions under Hugging Face's names (transformers' `ACT2FN`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpt2jax.errors import ConfigError

Activation = Callable[[Float[Array, "*axes"]], Float[Array, "*axes"]]

_gelu_tanh = partial(jax.nn.gelu, approximate=True)
_gelu_erf = partial(jax.nn.gelu, approximate=False)


def _gelu_10(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return jnp.clip(_gelu_erf(x), -10, 10)


def _laplace(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Ma et al. 2022 (Mega), with the constants that transformers rounds so."""
    return 0.5 * (1 + jax.scipy.special.erf((x - 0.707107) / (0.282095 * 2**0.5)))


def _leaky_relu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return jax.nn.leaky_relu(x, negative_slope=0.01)


def _linear(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return x


def _quick_gelu(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return x * jax.nn.sigmoid(1.702 * x)


def _relu2(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return jnp.square(jax.nn.relu(x))


def _sqrt_softplus(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    return jnp.sqrt(jax.nn.softplus(x))


ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu": _gelu_erf,
    "gelu_python": _gelu_erf,
    "gelu_10": _gelu_10,
    "hardswish": jax.nn.hard_swish,
    "laplace": _laplace,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "mish": jax.nn.mish,
    "quick_gelu": _quick_gelu,
    "relu": jax.nn.relu,
    "relu2": _relu2,
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "sqrtsoftplus": _sqrt_softplus,
    "tanh": jnp.tanh,
}
# Functions with parameters of their own, which a checkpoint holds as `mlp.act.*` and GPT-2's names have no place for.
WITH_PARAMETERS: tuple[str, ...] = ("prelu", "xielu")


def activation(name: str) -> Activation:
    """The function of a name.

    Raises:
        ConfigError: none is known by that name, or it has parameters of its own. Only what runs the MLP asks: a model
            whose activation is not known can still be decomposed.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    known = f"what runs the MLP needs one of {', '.join(ACTIVATIONS)}; give such a model"
    if name in WITH_PARAMETERS:
        raise ConfigError(f'activation_function is "{name}", which has parameters of its own; {known}')
    raise ConfigError(f'activation_function is "{name}", which is not known; {known}')

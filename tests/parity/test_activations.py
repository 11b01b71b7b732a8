"""Every activation function of transformers: the same values, or refused by name."""

# ruff: noqa: E402  (whether PyTorch is there is asked before what needs it is imported)

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity`: PyTorch")
pytest.importorskip("transformers", reason="needs the extra `parity`: Hugging Face transformers")

from transformers.activations import ACT2CLS, ACT2FN

from gpt2jax.activations import ACTIVATIONS, WITH_PARAMETERS, activation
from gpt2jax.errors import ConfigError

pytestmark = pytest.mark.parity

X = np.concatenate([np.linspace(-12, 12, 2001), [-1e30, -100, -20, -0.0, 0.0, 1e-30, 20, 100, 1e15]])
# sqrt(2/π) written with ten digits, 4e-12 off.
CONSTANTS = {"gelu_fast": 4e-12}


def test_every_name_is_known_or_refused():
    assert ACT2CLS.keys() - ACTIVATIONS.keys() == set(WITH_PARAMETERS) & ACT2CLS.keys()
    for name in WITH_PARAMETERS:
        with pytest.raises(ConfigError, match=f'activation_function is "{name}", which has parameters of its own'):
            activation(name)
    with pytest.raises(ConfigError, match='activation_function is "some_kernel", which is not known;'):
        activation("some_kernel")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_same_values(name: str, dtype: str):
    if name not in ACT2CLS:
        pytest.skip(f"this transformers has no {name}")
    x = X.astype(dtype)
    expected = ACT2FN[name](torch.tensor(x)).detach().numpy().astype(np.float64)
    with jax.enable_x64(dtype == "float64"):
        found = np.asarray(activation(name)(jnp.asarray(x)), np.float64)
    # Both compute f(x) from terms no larger than 1 + |x| and |f(x)|, each good to a few ε; the argument of exp, tanh or
    # erf is off by ε |x| where its slope, below 1, is not yet nothing.
    eps = float(np.finfo(dtype).eps)
    size = np.maximum(np.abs(expected), np.minimum(1 + np.abs(x), 16).astype(np.float64))
    bound = 16 * eps * size + CONSTANTS.get(name, 0) * np.abs(x)
    worst = np.max(np.abs(found - expected) / bound)
    assert worst <= 1, f"{name} differs by {worst:.3g} of what rounding allows"

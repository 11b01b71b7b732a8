"""GPT-2 in JAX: Hugging Face checkpoints in, logits, taps, hooks and every component's contribution out.

Knows nothing of circuits and is usable alone:

    model = gpt2jax.load("gpt2")
    out = gpt2jax.forward(model, tokens, taps=["blocks.*.attn.hook_pattern"])
"""

from gpt2jax import edits
from gpt2jax.config import GPT2Config
from gpt2jax.fingerprint import fingerprint
from gpt2jax.fold import fold
from gpt2jax.forward import Output, forward
from gpt2jax.generate import generate
from gpt2jax.load import load, save
from gpt2jax.params import Blocks, LayerNorm, Model, Params
from gpt2jax.patching import patch
from gpt2jax.random import random_model
from gpt2jax.residual import Contributions, logit_direction, logit_effects, residual_contributions
from gpt2jax.tokenizer import Tokenizer

__all__ = [
    "Blocks",
    "Contributions",
    "GPT2Config",
    "LayerNorm",
    "Model",
    "Output",
    "Params",
    "Tokenizer",
    "edits",
    "fingerprint",
    "fold",
    "forward",
    "generate",
    "load",
    "logit_direction",
    "logit_effects",
    "patch",
    "random_model",
    "residual_contributions",
    "save",
]

"""What every component wrote into the residual, and its direct effect on a logit direction.

Components stand in one order everywhere (METHOD.md, section 5): heads by layer and head (`4.11`), attention biases by
layer (`attn_bias.4`), MLPs by layer (`mlp.4`), `embed`, `pos`.
"""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.errors import ActivationNameError
from gpt2jax.forward import checked_ids, forward
from gpt2jax.numerics import centre, compute_dtype, einsum
from gpt2jax.params import Model, Params

FINAL = "final"
_TAPS = ("blocks.*.attn.hook_z", "blocks.*.hook_mlp_out", "hook_embed", "hook_pos_embed", "ln_final.hook_scale")


@struct.dataclass
class Contributions:
    """What each component wrote, [prompt component tok d_model]; summing over components gives the residual.

    `scale` is the final LayerNorm's scale, [prompt tok 1], which `logit_effects` holds.
    """

    labels: tuple[str, ...] = struct.field(pytree_node=False)
    values: Float[Array, "prompt component tok d_model"]
    scale: Float[Array, "prompt tok 1"]


def component_labels(attention_layers: int, mlp_layers: int, n_heads: int) -> tuple[str, ...]:
    """Names of all components up to a point of the residual, in the order of METHOD.md, section 5."""
    return (
        *(f"{layer}.{head}" for layer in range(attention_layers) for head in range(n_heads)),
        *(f"attn_bias.{layer}" for layer in range(attention_layers)),
        *(f"mlp.{layer}" for layer in range(mlp_layers)),
        "embed",
        "pos",
    )


def residual_contributions(
    model: Model,
    tokens: Int[Array | np.ndarray, "prompt tok"],
    at: str = FINAL,
    *,
    mask: Bool[Array | np.ndarray, "prompt tok"] | None = None,
    positions: Int[Array | np.ndarray, "prompt tok"] | None = None,
) -> Contributions:
    """Split the residual at a point into what each component wrote.

    Args:
        tokens, mask, positions: as for `gpt2jax.forward`.
        at: `blocks.{l}.hook_resid_pre`, `_mid`, `_post`, or `final` (what the final LayerNorm reads).

    Returns:
        Labels and values, [prompt component tok d_model].

    Raises:
        ActivationNameError: `at` names no point of the residual.
    """
    n_attention, n_mlp = _layers_before(at, model.config.n_layers)
    taps = forward(model, tokens, mask=mask, positions=positions, taps=_TAPS).taps
    blocks = model.params.blocks
    z = taps["blocks.*.attn.hook_z"][:n_attention]
    heads = einsum("lbtnh,lnhd->blntd", z, blocks.W_O[:n_attention].astype(z.dtype))
    n_prompts, _, _, n_tokens, d_model = heads.shape
    bias = jnp.broadcast_to(
        blocks.b_O[None, :n_attention, None].astype(z.dtype), (n_prompts, n_attention, n_tokens, d_model)
    )
    values = jnp.concatenate(
        [
            heads.reshape(n_prompts, -1, n_tokens, d_model),
            bias,
            jnp.moveaxis(taps["blocks.*.hook_mlp_out"][:n_mlp], 0, 1),
            taps["hook_embed"][:, None],
            taps["hook_pos_embed"][:, None],
        ],
        axis=1,
    )
    labels = component_labels(n_attention, n_mlp, model.config.n_heads)
    return Contributions(labels, values, taps["ln_final.hook_scale"])


def unembedding(params: Params) -> Float[Array, "d_model vocab"]:
    """`W_U`, also where it is tied to `W_E`.

    Raises:
        CheckpointError: the model has none.
    """
    params.require_unembedding()
    return params.W_E.T if params.W_U is None else params.W_U


def logit_direction(
    model: Model, answer: Int[Array | np.ndarray, "*prompt"], distractor: Int[Array | np.ndarray, "*prompt"]
) -> Float[Array, "*prompt d_model"]:
    """`W_U[:, answer] − W_U[:, distractor]`, one direction per prompt.

    Raises:
        InputError: ids that the vocabulary has not.
        CheckpointError: the model has no unembedding.
    """
    W_U = unembedding(model.params)
    a, d = (
        checked_ids(ids, model.config.d_vocab, name, "give token ids")
        for ids, name in ((answer, "answer"), (distractor, "distractor"))
    )
    return jnp.moveaxis(W_U[:, a] - W_U[:, d], 0, -1)


def logit_effects(
    model: Model, parts: Contributions, direction: Float[Array, "prompt d_model"] | Float[Array, " d_model"]
) -> tuple[Float[Array, "prompt component tok"], Float[Array, " prompt"]]:
    """Direct logit attribution: each component's effect on a logit direction, the final scale held.

    `γ ⊙ (y C)/s · a` for what a component wrote (METHOD.md, section 11), and the constant `β · a`. With the
    unembedding's own bias difference they sum to the logit difference.

    Args:
        parts: contributions at `final`.
        direction: a, e.g. from `logit_direction`; one for all prompts or one each.

    Returns:
        Effects [prompt component tok] and the constant [prompt].
    """
    model.params.require_unembedding()
    direction = jnp.broadcast_to(
        jnp.asarray(direction, compute_dtype(parts.values)), (parts.values.shape[0], parts.values.shape[-1])
    )
    norm = model.params.ln_final
    read = read_direction(model.params, direction)
    effects = einsum("bctd,bd->bct", parts.values, read) / parts.scale[:, None, :, 0]
    constant = (
        jnp.zeros(direction.shape[0], direction.dtype)
        if norm is None
        else einsum("bd,d->b", direction, norm.b.astype(direction.dtype))
    )
    return effects, constant


def read_direction(params: Params, direction: Float[Array, "prompt d_model"]) -> Float[Array, "prompt d_model"]:
    """What a direction a of logits is to the residual before the final LayerNorm: `(γ_f ⊙ a) C`.

    So what is written counts `y · that / s_f` (METHOD.md, section 11).
    """
    norm = params.ln_final
    return centre(direction if norm is None else direction * norm.w.astype(direction.dtype)[None])


def _layers_before(at: str, n_layers: int) -> tuple[int, int]:
    """How many attention layers and how many MLPs have written before a point of the residual."""
    if at == FINAL:
        return n_layers, n_layers
    match = re.fullmatch(r"blocks\.(\d{1,9})\.hook_resid_(pre|mid|post)", at)
    if not match or int(match[1]) >= n_layers:
        raise ActivationNameError(
            f'"{at}" is no point of the residual; name blocks.L.hook_resid_pre, _mid or _post with L from 0 to '
            f"{n_layers - 1}, or {FINAL}"
        )
    layer = int(match[1])
    return {"pre": (layer, layer), "mid": (layer + 1, layer), "post": (layer + 1, layer + 1)}[match[2]]

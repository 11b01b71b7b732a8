"""Where tracing starts: firings named by head and role, every firing, or heads that write the answer.

METHOD.md, sections 7 and 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.config import GPT2Config
from gpt2jax.forward import unembed
from gpt2jax.numerics import einsum
from gpt2jax.params import Params
from gpt2jax.residual import read_direction, unembedding
from svdtrace.errors import RootError
from svdtrace.method.edges import covering
from svdtrace.method.firings import FiringList
from svdtrace.prompts.edge_names import position
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.values import whole_number
from svdtrace.tracing.observe import Observed

ALL = "all"
LOGIT = "logit"
PROBABILITY = "probability"
ANY = "*"


@dataclass(frozen=True)
class Root:
    """`LAYER.HEAD@DEST:SRC`; each end a role, a position, or `*` for any."""

    layer: int
    head: int
    dest: str
    src: str

    def names(self, place: Sequence[int], roles: Mapping[str, int]) -> bool:
        """Whether it names the firing (layer, head, dest, src) of a prompt with these roles."""
        layer, head, dest, src = place
        if (self.layer, self.head) != (layer, head):
            return False
        return all(end == ANY or position(end, roles) == at for end, at in ((self.dest, dest), (self.src, src)))

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}@{self.dest}:{self.src}"


def parse_roots(text: str, config: GPT2Config, prompts: Sequence[Prompt]) -> tuple[Root, ...]:
    """Read the roots of a trace; none for `all`, `logit` and `probability`.

    Raises:
        RootError: not of the form `LAYER.HEAD@DEST:SRC`, no such head, or a role that no prompt has.
    """
    roles = {role for prompt in prompts for role in prompt.roles}
    return roots_among(text, config, roles, max((len(prompt.tokens) for prompt in prompts), default=0))


def roots_among(text: str, config: GPT2Config, roles: Set[str], longest: int) -> tuple[Root, ...]:
    """`parse_roots`, of prompts that are known by the roles that they have and the tokens of the longest alone.

    Raises:
        RootError: see `parse_roots`.
    """
    if text in (ALL, LOGIT, PROBABILITY):
        return ()
    return tuple(_parse_root(part.strip(), config, roles, longest) for part in text.split(","))


def _parse_root(text: str, config: GPT2Config, roles: Set[str], longest: int) -> Root:
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})@([^@:,]+):([^@:,]+)", text)
    if not match:
        raise RootError(
            f'root "{text}" is not of the form LAYER.HEAD@DEST:SRC; write e.g. 9.6@end:IO, or all, or logit, or '
            "probability"
        )
    layer, head = int(match[1]), int(match[2])
    if layer >= config.n_layers or head >= config.n_heads:
        raise RootError(
            f'root "{text}": the model has no head {layer}.{head}; layers go from 0 to {config.n_layers - 1}, '
            f"heads from 0 to {config.n_heads - 1}"
        )
    if layer == 0:
        way_out = "; name a head of layer 1 or above" if config.n_layers > 1 else ", and the model has no other layer"
        raise RootError(f'root "{text}": heads of layer 0 have no earlier heads to trace{way_out}')
    for end in (match[3], match[4]):
        if end == ANY or end in roles:
            continue
        place = whole_number(end)
        if place is not None and place >= longest:
            raise RootError(f'root "{text}": position {end} is outside every prompt; the longest has {longest} tokens')
        if place is None:
            known = f"they have {', '.join(sorted(roles))}" if roles else "they have no roles; name positions, or *"
            raise RootError(f'root "{text}": no prompt has a role "{end}"; {known}')
    return Root(layer, head, match[3], match[4])


def named_roots(firings: FiringList, roots: Sequence[Root], prompts: Sequence[Prompt]) -> np.ndarray:
    """Mark the firings that the roots name, [firing]. `firings.prompt` indexes `prompts`."""
    marked = np.zeros(len(firings), bool)
    for root in roots:
        marked |= (
            (firings.layer == root.layer)
            & (firings.head == root.head)
            & _stands(root.dest, firings.dest, firings.prompt, prompts)
            & _stands(root.src, firings.src, firings.prompt, prompts)
        )
    return marked


def _stands(end: str, token: np.ndarray, prompt: np.ndarray, prompts: Sequence[Prompt]) -> np.ndarray:
    """Where a token is the one that an end of a root names."""
    if end == ANY:
        return np.ones(len(token), bool)
    places = [position(end, each.roles) for each in prompts]
    return token == np.asarray([-1 if place is None else place for place in places], np.int64)[prompt]


@struct.dataclass
class RootHeads:
    """What heads write towards the output at the last traced token (METHOD.md, section 11).

    `effect`: every head's direct effect, in logits; `chosen`: the root heads, whose effects cover the total of all
    heads' by the rule of section 6. `target`: the token whose logit the direction raises, and its `probability` among
    all tokens. Where heads are split by what they attended to (section 14.7), `attended` marks the parts that are
    roots, and `effect` is of these alone.
    """

    effect: Float[Array, "prompt layer head"]
    chosen: Bool[Array, "prompt layer head"]
    target: Int[Array, " prompt"]
    probability: Float[Array, " prompt"]
    attended: Bool[Array, "prompt layer head tok"] | None = None


def logit_direction(
    params: Params,
    logits: Float[Array, "prompt vocab"],
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
) -> tuple[Float[Array, "prompt d_model"], Int[Array, " prompt"]]:
    """Section 11's direction, and the token whose logit it raises."""
    W_U = unembedding(params).astype(logits.dtype)
    top = jnp.argmax(logits, axis=-1)
    named = (answer >= 0) & (distractor >= 0)
    direct = W_U.T[jnp.maximum(answer, 0)] - W_U.T[jnp.maximum(distractor, 0)]
    direction = jnp.where(named[:, None], direct, W_U.T[top] - jnp.mean(W_U, axis=1)[None])
    return direction, jnp.where(named, answer, top.astype(answer.dtype))


@jax.jit
def root_heads(
    params: Params,
    observed: Observed,
    last: Int[Array, " prompt"],
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
    coverage: Float[Array, ""],
) -> RootHeads:
    """Heads whose direct effects `γ_f ⊙ (y C)/s_f · a` cover what heads write towards the output.

    The direction a is `W_U[:, answer] − W_U[:, distractor]`, or where a prompt lacks one of them the top token's column
    minus the mean column.
    """
    logits = unembed(params, observed.final_read)
    direction, target = logit_direction(params, logits, answer, distractor)
    at_last = jnp.maximum(last, 0)[None, :, None, None, None]
    z = jnp.take_along_axis(observed.z, at_last, axis=2)[:, :, 0]
    W_O = params.blocks.W_O.astype(z.dtype)
    written = einsum("lbnh,lnhd,bd->bln", z, W_O, read_direction(params, direction))
    effect = written / observed.final_scale[:, None, None]
    chosen = covering(effect.reshape(effect.shape[0], -1), coverage).reshape(effect.shape)
    probability = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), target[:, None], axis=-1)[:, 0]
    return RootHeads(effect=effect, chosen=chosen, target=target, probability=probability)


@jax.jit
def logit_difference(
    params: Params,
    final_read: Float[Array, "prompt d_model"],
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
) -> Float[Array, " prompt"]:
    """logit[answer] − logit[distractor] at the last traced token; means nothing where a prompt lacks one (-1)."""
    W_U = unembedding(params)
    a, d = jnp.maximum(answer, 0), jnp.maximum(distractor, 0)
    direction = (W_U[:, a] - W_U[:, d]).astype(final_read.dtype)
    difference = einsum("bd,db->b", final_read, direction)
    if params.b_U is not None:
        difference = difference + (params.b_U[a] - params.b_U[d]).astype(difference.dtype)
    return difference

"""Whether a slice tells signal from background: contributions by S beside those by every vector (section 9). Numerics.

share_w = |c_w| / Σ|c|:  top1, top5 = the largest, the five largest shares together
                         effective  = exp(−Σ share ln share), how many heads share the total evenly
                         net        = |Σ c| / Σ|c|, 1 where nothing cancels
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.contributions import Reader, coefficients, contribute, head_terms
from svdtrace.method.cuts import running_sums
from svdtrace.method.edges import covering
from svdtrace.method.slices import choose_slices
from svdtrace.tracing.attribute import Collected

MEASURES = ("top1", "top5", "effective", "net")
SETS = ("slice", "all")


@struct.dataclass
class Compared:
    """Contributions of heads to firings, by S (set 0) and by every vector within the rank (set 1).

    `weight` [set side block slot writer], -inf for writers that do not stand below; `measures` in the order of
    `MEASURES`, 0 where nothing is contributed; `chosen`: edges by S (section 6).
    """

    weight: Float[Array, "set side block slot writer"]
    measures: Float[Array, "measure set side block slot"]
    chosen: Bool[Array, "side block slot writer"]


def concentration(weight: Float[Array, "*rows writer"]) -> Float[Array, " measure *rows"]:
    """How concentrated contributions are; -inf stands for none. All measures are 0 where nothing is contributed."""
    present = weight > -jnp.inf
    sizes = jnp.where(present, jnp.abs(weight), 0)
    gross = jnp.sum(sizes, axis=-1)
    there = gross > 0
    share = sizes / jnp.where(there, gross, 1)[..., None]
    top5 = jnp.sum(jnp.where(running_sums(share).place < 5, share, 0), axis=-1)
    entropy = -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0), axis=-1)
    net = jnp.abs(jnp.sum(jnp.where(present, weight, 0), axis=-1)) / jnp.where(there, gross, 1)
    # Nothing is evenly shared by no head.
    return jnp.stack([jnp.max(share, axis=-1), top5, jnp.where(there, jnp.exp(entropy), 0), net])


@partial(jax.jit, static_argnames=("method",))
def compare_contributions(
    collected: Collected,
    head: Int[Array, " block"],
    layer: Int[Array, ""],
    reader: Reader,
    cores: Float[Array, "side head layer writer_head d_head sv"],
    tau: Float[Array, ""],
    coverage: Float[Array, ""],
    *,
    method: str,
) -> Compared:
    """Contributions of the heads below to firings of one layer, by S and by every vector (section 5).

    Args:
        collected: of both sides, dest first (`svdtrace.tracing.attribute.collect`).
        head: the blocks' heads; layer: theirs all.
        method: `exact` or `paper`.
    """
    q, k = collected.q, collected.k
    products = q * k
    members = choose_slices(products, jnp.zeros_like(products), tau).members
    rank = jnp.broadcast_to(reader.scale.within[head][:, None], q.shape)
    n_layers, n_heads = cores.shape[2:4]
    present = jnp.repeat(jnp.arange(n_layers) < layer, n_heads)

    def by(some: Array) -> Array:
        coefficient = coefficients(method, q, k, some)
        sides = []
        for side, written in enumerate(collected.written):
            appended = 0.0 if method == "exact" else 1.0
            terms = head_terms(written, cores[side, head], reader.bias[side, head], appended)
            sides.append(contribute(terms, coefficient[side], present))
        return jnp.stack(sides)

    weight = jnp.stack([by(members), by(rank)])
    return Compared(weight=weight, measures=concentration(weight), chosen=covering(weight[0], coverage))

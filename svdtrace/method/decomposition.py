"""All heads' query-key matrices, decomposed in one batched call (METHOD.md, section 2).

`Ω = A Bᵀ` with `A = [W_Q ; b_Q]`, `B = [W_K ; b_K]`, each (d+1) × h, has rank at most h. So each head costs two thin
orthogonalisations and one h × h SVD, never a dense (d+1) × (d+1) one.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from gpt2jax.notebook import heat_map, table
from gpt2jax.numerics import compute_dtype, einsum
from gpt2jax.params import Blocks, Model
from svdtrace.errors import ModelError

FLOAT32_EPS = float(jnp.finfo(jnp.float32).eps)


@struct.dataclass
class Decomposition:
    """`Ω = U diag(S) Vᵀ` of every head, S descending; V holds right vectors as columns.

    The entry of largest magnitude of each column of U is positive (the lowest index among equals).
    """

    U: Float[Array, "layer head d_model_1 d_head"]
    S: Float[Array, "layer head d_head"]
    V: Float[Array, "layer head d_model_1 d_head"]

    def __repr__(self) -> str:
        layers, heads, rows, vectors = self.U.shape
        return f"Decomposition({layers} layers of {heads} heads, {vectors} pairs of singular vectors of {rows} entries)"

    def _repr_html_(self) -> str:
        S = np.asarray(self.S, np.float32)
        rank = np.asarray(self.within_rank()).sum(axis=-1)
        # Over how many directions the squares spread evenly.
        spread = np.square(S).sum(axis=-1) ** 2 / np.maximum(np.power(S, 4).sum(axis=-1), np.finfo(np.float32).tiny)
        rows = [
            (name, *(float(f(values)) for f in (np.min, np.median, np.max)))
            for name, values in (("largest singular value", S[..., 0]), ("rank", rank), ("effective rank", spread))
        ]
        return f"{table(('of every head', 'least', 'median', 'most'), rows, repr(self))}" + heat_map(
            spread, "Effective rank of the query-key matrix", "layer", "head"
        )

    def within_rank(self) -> Bool[Array, "layer head d_head"]:
        """Which singular values count: `σ_k > σ_0 (d+1) eps`, eps of float32."""
        return self.S[..., :1] * self.U.shape[-2] * FLOAT32_EPS < self.S


def query_key_factors(
    blocks: Blocks,
) -> tuple[Float[Array, "layer head d_model_1 d_head"], Float[Array, "layer head d_model_1 d_head"]]:
    """`A = [W_Q ; b_Q]` and `B = [W_K ; b_K]` of every head.

    Raises:
        ModelError: the model holds no query and key weights.
    """
    if blocks.W_Q is None or blocks.W_K is None:
        raise ModelError("the model holds no query and key weights; load one with parts=None or parts='heads'")
    dtype = compute_dtype(blocks.W_Q)
    A = jnp.concatenate([blocks.W_Q, blocks.b_Q[..., None, :]], axis=-2).astype(dtype)
    B = jnp.concatenate([blocks.W_K, blocks.b_K[..., None, :]], axis=-2).astype(dtype)
    return A, B


def decompose(model: Model, first: int = 0) -> Decomposition:
    """Decompose `Ω = A Bᵀ` of every head of a model, in its own processing.

    Args:
        model: raw or folded; `ln_1` and `attn` weights are enough (`gpt2jax.load(parts="heads")`).
        first: number of the first layer that the model holds, for what is said of its heads.

    Returns:
        U, S, V with leading axes layer and head.

    Raises:
        ModelError: the model holds no query and key weights, or a product of them is not finite.
    """
    A, B = query_key_factors(model.params.blocks)
    # Programs of their own: two independent batched LAPACK calls in one program can wait for each other's threads
    # for ever on two cores (METHOD.md, measured hazards).
    Q, R = jax.block_until_ready(orthogonalise(jnp.stack([A, B])))
    core = jax.block_until_ready(_core_svd(R[0], R[1]))
    not_finite = np.argwhere(~np.isfinite(np.asarray(core[1])).all(axis=-1))
    if len(not_finite):
        layer, head = not_finite[0]
        named = f"{first + layer}.{head}"
        heads = f"head {named}" if len(not_finite) == 1 else f"{len(not_finite)} heads, {named} first"
        raise ModelError(
            f"{heads}: the query-key matrix is not finite; give a model whose weights are finite and not so large"
        )
    return _assembled(Q, *core)


def orthogonalise(
    factors: Float[Array, "*head d_model_1 d_head"],
) -> tuple[Float[Array, "*head d_model_1 d_head"], Float[Array, "*head d_head d_head"]]:
    """`F = Q R` with orthonormal columns of Q; R is not triangular, which nothing here needs.

    Three rounds of shifted Cholesky QR (Fukaya et al. 2020) are matrix products, an order of magnitude faster than
    batched Householder QR. On factors without full rank they fail, loudly or by filling a column with rounding noise;
    heads whose Q is not orthonormal, or does not give F back, are done again by Householder reflections.
    """
    Q, error = _cholesky_qr(factors)
    n_rows, n_columns = factors.shape[-2:]
    # Each round rounds by a few eps per column; errors of columns add in quadrature.
    bound = 10 * n_columns**0.5 * jnp.finfo(factors.dtype).eps
    failed = np.nonzero(np.asarray(error).ravel() > bound)[0]
    if len(failed):
        flat = factors.reshape(-1, n_rows, n_columns)
        Q = Q.reshape(flat.shape).at[failed].set(_householder(flat[failed])).reshape(factors.shape)
    return Q, _project(Q, factors)


@jax.jit
def _cholesky_qr(factors: Array) -> tuple[Array, Array]:
    """Q, and of each head the larger of `‖QᵀQ − I‖ / √h` and `‖F − Q QᵀF‖ / ‖F‖` (Frobenius norms)."""
    identity = jnp.eye(factors.shape[-1], dtype=factors.dtype).reshape(
        *[1] * (factors.ndim - 2), *[factors.shape[-1]] * 2
    )
    # The Gram matrix is rounded by about eps × its trace; the shift keeps it positive all the same.
    shift = 4 * jnp.finfo(factors.dtype).eps
    Q = factors
    for each_shift in (shift, 0, 0):
        gram = einsum("...dh,...dk->...hk", Q, Q)
        trace = jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None]
        L = jnp.linalg.cholesky(gram + each_shift * trace * identity)
        inverse = jax.scipy.linalg.solve_triangular(L, jnp.broadcast_to(identity, L.shape), lower=True)
        Q = einsum("...dh,...kh->...dk", Q, inverse)
    # Where a Cholesky factor does not exist LAPACK says so by NaN, which is as far off as can be, and goes no further.
    exists = jnp.all(jnp.isfinite(Q), axis=(-2, -1))
    Q = jnp.where(exists[..., None, None], Q, 0)
    orthogonality = _norm(einsum("...dh,...dk->...hk", Q, Q) - identity) / factors.shape[-1] ** 0.5
    size = _norm(factors)
    # Factors without any weights are given back by anything.
    residual = _norm(factors - einsum("...dh,...hk->...dk", Q, _project(Q, factors))) / jnp.where(size > 0, size, 1)
    return Q, jnp.where(exists, jnp.maximum(orthogonality, residual), jnp.inf)


def _norm(matrix: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(matrix), axis=(-2, -1)))


@jax.jit
def _householder(factors: Float[Array, "head d_model_1 d_head"]) -> Float[Array, "head d_model_1 d_head"]:
    return jax.lax.map(lambda factor: jnp.linalg.qr(factor)[0], factors)


@jax.jit
def _project(Q: Array, factors: Array) -> Array:
    return einsum("...dh,...dk->...hk", Q, factors)


@jax.jit
def _core_svd(R_A: Array, R_B: Array) -> tuple[Array, Array, Array]:
    U, S, Vh = jnp.linalg.svd(einsum("lnhk,lnmk->lnhm", R_A, R_B))
    return U, S, Vh


@jax.jit
def _assembled(Q: Array, U_core: Array, S: Array, V_core_T: Array) -> Decomposition:
    U = einsum("lndh,lnhk->lndk", Q[0], U_core)
    V = einsum("lndh,lnkh->lndk", Q[1], V_core_T)
    largest = jnp.argmax(jnp.abs(U), axis=-2, keepdims=True)
    sign = jnp.where(jnp.take_along_axis(U, largest, axis=-2) < 0, -1, 1).astype(U.dtype)
    return Decomposition(U=U * sign, S=S, V=V * sign)


def singular_gauge(
    decomposition: Decomposition,
) -> tuple[Float[Array, "layer head d_model_1 d_head"], Float[Array, "layer head d_model_1 d_head"]]:
    """`Â = U Σ^½` and `B̂ = V Σ^½`: scores stay as they are, and `q̂_k k̂_k = p_k`.

    Columns beyond the rank are exactly zero, and so are their products.
    """
    root = jnp.sqrt(jnp.where(decomposition.within_rank(), decomposition.S, 0))[..., None, :]
    return decomposition.U * root, decomposition.V * root


def gauged(model: Model, decomposition: Decomposition) -> Model:
    """The same model with its queries and keys in the singular gauge: no logit changes, and tracing needs no second
    projection, since the forward pass's own queries and keys, multiplied entry by entry, are the products.
    """
    blocks = replace(model.params.blocks, **_gauge_weights(decomposition))
    return replace(model, params=replace(model.params, blocks=blocks))


def gauge_weights(decomposition: Decomposition) -> dict[str, Array]:
    """The parameters that differ in the singular gauge, by their names."""
    A, B = singular_gauge(decomposition)
    return {"W_Q": A[..., :-1, :], "b_Q": A[..., -1, :], "W_K": B[..., :-1, :], "b_K": B[..., -1, :]}


_gauge_weights = jax.jit(gauge_weights)

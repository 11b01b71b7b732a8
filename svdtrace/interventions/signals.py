"""What a writer sends to a reader along some singular vectors, and controls beside it (METHOD.md, section 10).

Every method gives `δ = (y B + a b) M Bᵀ`, with B the first d rows of the vectors of the slices, b their last row:

| method | B | a | M |
| --- | --- | --- | --- |
| paper | one edge's slice | 1 | I |
| exact | one edge's slice | 0 | (Bᵀ B)⁺ |
| joint | the slices of all edges of one writer and token | 0 | (Bᵀ B)⁺ |

Small, so it is done on the host, in float64: what overlaps between slices is then told from rounding.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

FLOAT32_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Sending:
    """The edges of one set in a batch of prompts.

    `writer`: numbers, equal where the name is; `token` [edge prompt]; `members`: S, empty where the edge is
    absent; `written`: y, or its difference from what replaces it; `vectors`: U or V of the reading side.
    """

    writer: Int[np.ndarray, " edge"]
    vectors_of: Int[np.ndarray, " edge"]
    vectors: Float[np.ndarray, "reading d_model_1 sv"]
    token: Int[np.ndarray, "edge prompt"]
    members: Bool[np.ndarray, "edge prompt sv"]
    written: Float[np.ndarray, "edge prompt d_model"]


def signals(
    sending: Sending, method: str, appended: float, site: Int[np.ndarray, " edge"]
) -> Float[np.ndarray, "edge prompt d_model"]:
    """δ of every edge; under `joint` the first edge of a group has the group's, the others none.

    Args:
        method: `paper`, `exact` or `joint`.
        appended: a of the table; 0 where what replaces y has its own 1, too.
        site: numbers, equal where edges edit one place, as local edits of one reader do; `joint` keeps others apart.
    """
    members = sending.members
    if method == "joint":
        together = _together(sending, site)
        members, reading = _joined(sending, together)
    else:
        reading = [np.asarray([each]) for each in sending.vectors_of]
    delta = np.zeros(sending.written.shape)
    for edge, which in enumerate(reading):
        vectors = np.concatenate(list(sending.vectors[which]), axis=-1).astype(np.float64)
        inside = members[edge].reshape(len(members[edge]), -1)[:, : vectors.shape[-1]]
        delta[edge] = _along(vectors, inside, sending.written[edge], appended, method == "paper")
    return delta - delta.mean(axis=-1, keepdims=True)


def drawn(
    members: Bool[np.ndarray, "prompt sv"],
    rank: Bool[np.ndarray, " sv"],
    place: Int[np.ndarray, " prompt"],
    name: str,
    seed: int,
) -> tuple[Bool[np.ndarray, "prompt sv"], Bool[np.ndarray, " prompt"]]:
    """As many vectors within the rank as S has, none of S, without replacement.

    Args:
        place: the prompts' places in the input, so that a draw does not depend on batches; -1 is drawn too.
        name, seed: of the edge and the control; the same draw for the same.

    Returns:
        The vectors, and where there were fewer, so that all were taken.
    """
    # Draws of all prompts up to the last one needed are prefixes of one sequence.
    sequence = np.random.default_rng([seed, zlib.crc32(name.encode())])
    key = sequence.random((int(place.max(initial=0)) + 1, members.shape[-1]))[np.maximum(place, 0)]
    key = np.where(members | ~rank, np.inf, key)
    order = np.argsort(np.argsort(key, axis=-1, kind="stable"), axis=-1, kind="stable")
    size = members.sum(axis=-1)
    chosen = (order < size[:, None]) & np.isfinite(key)
    return chosen, chosen.sum(axis=-1) < size


def scaled(
    delta: Float[np.ndarray, "*axes d_model"], to: Float[np.ndarray, "*axes d_model"]
) -> Float[np.ndarray, "*axes d_model"]:
    """`delta` with the norm of `to`; nothing stays nothing."""
    norm = np.linalg.norm(delta, axis=-1, keepdims=True)
    return delta * np.linalg.norm(to, axis=-1, keepdims=True) / np.where(norm > 0, norm, 1)


def _together(sending: Sending, site: Int[np.ndarray, " edge"]) -> Bool[np.ndarray, "edge edge prompt"]:
    """Which edges stand in one group: same writer, token and site, both present."""
    same = np.equal.outer(sending.writer, sending.writer) & np.equal.outer(site, site)
    present = sending.token >= 0
    return same[..., None] & (sending.token[:, None] == sending.token) & present[:, None] & present


def _joined(
    sending: Sending, together: Bool[np.ndarray, "edge edge prompt"]
) -> tuple[Bool[np.ndarray, "edge prompt most_readings sv"], list[np.ndarray]]:
    """For every edge the vectors of its group's slices, where it is the group's first, and whose readings they are."""
    n_edges, n_prompts, n_sv = sending.members.shape
    led = np.asarray([~together[edge, :edge].any(axis=0) for edge in range(n_edges)])
    readings = [np.unique(sending.vectors_of[together[edge].any(axis=-1)]) for edge in range(n_edges)]
    readings = [each if len(each) else sending.vectors_of[[edge]] for edge, each in enumerate(readings)]
    joined = np.zeros((n_edges, n_prompts, max(map(len, readings)), n_sv), bool)
    for edge, which in enumerate(readings):
        for place, reading in enumerate(which):
            of_reading = together[edge] & (sending.vectors_of == reading)[:, None]
            joined[edge, :, place] = (sending.members & of_reading[..., None]).any(axis=0) & led[edge][:, None]
    return joined, readings


def _along(
    vectors: Float[np.ndarray, "d_model_1 vector"],
    members: Bool[np.ndarray, "prompt vector"],
    written: Float[np.ndarray, "prompt d_model"],
    appended: float,
    orthonormal: bool,
) -> Float[np.ndarray, "prompt d_model"]:
    """δ of one edge, or of one group of edges."""
    B, last = vectors[:-1], vectors[-1]
    coefficient = (written @ B + (appended * last if orthonormal else 0)) * members
    if not orthonormal:
        coefficient = _solved(B.T @ B, members, coefficient, floor=len(vectors) * FLOAT32_EPS)
    return coefficient @ B.T


def _solved(
    gram: Float[np.ndarray, "vector vector"],
    members: Bool[np.ndarray, "prompt vector"],
    coefficient: Float[np.ndarray, "prompt vector"],
    floor: float,
) -> Float[np.ndarray, "prompt vector"]:
    """`c (Bᵀ B)⁺` over the members; directions with a singular value below `floor` of the largest are dependent."""
    size = int(members.sum(axis=-1).max(initial=0))
    # The members of every prompt first, so that small systems are solved.
    order = np.argsort(~members, axis=-1, kind="stable")[:, :size]
    inside = np.take_along_axis(members, order, axis=-1)
    among = gram[order[:, :, None], order[:, None, :]] * (inside[:, :, None] & inside[:, None, :])
    value, basis = np.linalg.eigh(among)
    kept = value > floor**2 * value.max(axis=-1, keepdims=True, initial=0)
    inverse = np.where(kept, 1 / np.where(kept, value, 1), 0)
    small = np.take_along_axis(coefficient, order, axis=-1)
    solved = np.einsum("pij,pj,pkj,pk->pi", basis, inverse, basis, small, optimize=True)
    out = np.zeros(coefficient.shape)
    np.put_along_axis(out, order, solved * inside, axis=-1)
    return out

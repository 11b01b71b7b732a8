"""What taking a writer out of a firing does: the head's query or keys read again without it, one edit at a time.

Weights beside it are METHOD.md's, sections 5 and 14; slopes are taken by a complex step through the same edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from .heads import choose_slice, with_one
from .model import centre, norm_parameters
from .relative import Head
from .signals import Writer, writers, written

STEP = 1e-30


def pattern_of(head: Head, q: np.ndarray, k: np.ndarray) -> complex:
    """p_j of a query and keys."""
    scores = head.scale * k @ q
    power = np.exp(scores - scores.real.max())
    return power[head.src] / power.sum()


class Edited:
    """A firing's head that reads edited residuals, with its model's own weights."""

    def __init__(self, head: Head) -> None:
        self.head, params = head, head.model.params
        layer, number = head.firing[:2]
        self.A, self.B = (np.vstack([params[f"W_{n}"][layer, number], params[f"b_{n}"][layer, number]]) for n in "QK")
        self.q = self.read(head.dest) @ self.A
        self.k = np.stack([self.read(t) @ self.B for t in range(head.dest + 1)])

    def read(
        self, token: int, writer: Writer | None = None, amount: complex = 1.0, rescaled: bool = False
    ) -> np.ndarray:
        """[x, 1] at a token, so much of what a writer wrote taken out."""
        head, params = self.head, self.head.model.params
        x = with_one(head.acts["ln1_x"][head.layer, token])
        if writer is None:
            return x
        gamma, beta = norm_parameters(params, "ln1", head.layer)
        if writer.kind == "const":
            return x - amount * with_one(beta)
        y = centre(written(params, head.acts, writer, token))
        if not rescaled:
            return x - amount * np.append(gamma * y / head.acts["ln1_scale"][head.layer, token], 0)
        left = centre(head.acts["resid_pre"][head.layer, token]) - amount * y
        return np.append(gamma * left / np.sqrt(np.mean(left**2) + head.model.config["eps"]) + beta, 1)

    def without(self, side: str, writer: Writer, amount: complex = 1.0, rescaled: bool = False) -> complex:
        """p_j with it taken out of the query, or of every key."""
        if side == "dest":
            return pattern_of(self.head, self.read(self.head.dest, writer, amount, rescaled) @ self.A, self.k)
        keys = [self.read(t, writer, amount, rescaled) @ self.B for t in range(len(self.k))]
        return pattern_of(self.head, self.q, np.stack(keys))

    def slope(self, side: str, writer: Writer, rescaled: bool) -> float:
        """How fast p_j falls as it begins to be taken out."""
        return -float(np.imag(self.without(side, writer, 1j * STEP, rescaled))) / STEP

    def row(self, side: str, writer: Writer) -> np.ndarray:
        """What leaves the scores with it."""
        if side == "dest":
            return self.head.scale * self.k @ (self.q - self.read(self.head.dest, writer) @ self.A)
        left = [self.read(t, writer) @ self.B for t in range(len(self.k))]
        return self.head.scale * (self.k - np.stack(left)) @ self.q


def softmax_at(scores: np.ndarray, j: int) -> float:
    power = np.exp(scores - scores.max())
    return float(power[j] / power.sum())


def falls(edited: Edited, side: str, writer: Writer, members: Sequence[int]) -> dict[str, float]:
    """By how much p_j falls, under the names of the table."""
    head, j = edited.head, edited.head.src
    rows = {"fall": edited.row(side, writer), "fall_in_slice": head.row(writer, side, members)}
    found = {name: head.pattern - softmax_at(head.scores - row, j) for name, row in rows.items()}
    found["fall_rescaled"] = head.pattern - float(np.real(edited.without(side, writer, 1.0, True)))
    if side == "src":
        at_src = np.arange(len(edited.k)) == j
        for name, row in (("fall_at_src", rows["fall"]), ("fall_to_mean", rows["fall"] - rows["fall"].mean())):
            found[name] = head.pattern - softmax_at(head.scores - np.where(at_src, row, 0), j)
    return found


def weights(edited: Edited, side: str, writer: Writer, tau: float = 1.0) -> dict[str, float]:
    """What each method says of a writer, under the names of the table."""
    head, j = edited.head, edited.head.src
    token, every = head.dest if side == "dest" else j, range(head.rank)
    other = head.k[j] if side == "dest" else head.q
    alpha = head.alpha(writer, side, token)
    slices = {
        name: choose_slice(p, 0 * p, tau).members
        for name, p in (("exact", head.q * head.k[j]), ("relative", head.products))
    }
    found = {}
    for after, chosen in (("", slices), ("_every", {"exact": every, "relative": every})):
        found[f"exact{after}"] = sum(float(alpha[k] * other[k]) for k in chosen["exact"])
        found[f"relative{after}"] = float(head.M @ head.row(writer, side, list(chosen["relative"])))
    found |= {"attribution": edited.slope(side, writer, True), "gradient": edited.slope(side, writer, False)}
    if side == "src":
        row = head.row(writer, side, slices["relative"])
        found["own"] = float(head.M[j] * (row[j] - row.mean()))
    return found


def needed(scores: np.ndarray, rows: Sequence[np.ndarray], j: int, theta: float, order: Sequence[int]) -> int | None:
    """After how many of them, in this order, p_j is below θ."""
    left = scores.copy()
    for many, writer in enumerate(order, 1):
        left = left - rows[writer]
        if softmax_at(left, j) < theta:
            return many
    return None


def fewest(scores: np.ndarray, rows: Sequence[np.ndarray], j: int, theta: float) -> int | None:
    """One or two, if that is enough; else as many as go when each is the one that lowers p_j most."""
    for size in (1, 2):
        if any(
            softmax_at(scores - sum(rows[w] for w in some), j) < theta for some in combinations(range(len(rows)), size)
        ):
            return size
    left, waiting = scores.copy(), list(range(len(rows)))
    after: Callable[[int], float] = lambda w: softmax_at(left - rows[w], j)  # noqa: E731
    for many in range(1, len(rows) + 1):
        best = min(waiting, key=after)
        left = left - rows[best]
        waiting.remove(best)
        if softmax_at(left, j) < theta:
            return many
    return None


def candidates(head: Head, side: str) -> list[Writer]:
    """Who is taken out; what the constant writes is the same at every key, and no candidate there."""
    found = writers(head.model.config, head.layer)
    return found if side == "dest" else found[:-1]

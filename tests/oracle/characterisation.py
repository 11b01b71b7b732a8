"""Section 9, by loops: sizes of slices where heads fire and where they do not, and what vectors pick out.

Where section 9 leaves room: a pair that does not fire is any (i, j) with i up to the last traced token and j ≥ 1 (0
without `skip_first`) that is no firing of that head; a head's used vectors are those in half of its slices, or, where
there are none, the one (lowest k first) that is in most; tokens are averaged over every position up to the last traced
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .circuit import get, last_traced
from .heads import Slice, choose_slice, firings, product_bounds, products, with_one
from .model import Acts, forward
from .relative import Head, relative_firings
from .signals import contributions, writers
from .tracing import Model


class Pairs:
    """All pairs of all heads of all prompts: `fired` and `idle`, (prompt, layer, head, dest, src) → its slice."""

    def __init__(self, model: Model, prompts: Sequence[Any], settings: Mapping[str, Any]) -> None:
        self.fired: dict[tuple, Slice] = {}
        self.idle: dict[tuple, Slice] = {}
        self.products: dict[tuple, np.ndarray] = {}
        self.near_threshold: set[tuple] = set()
        self.acts = []
        for place, prompt in enumerate(prompts):
            acts = forward(model.params, model.config, get(prompt, "tokens"))
            self.acts.append(acts)
            last = last_traced(prompt)
            relative = settings.get("method") == "relative"
            fired = set((relative_firings if relative else firings)(acts, settings, last, first_layer=0))
            n_layers, n_heads = acts["pattern"].shape[:2]
            for layer, head in np.ndindex(n_layers, n_heads):
                for dest in range(last + 1):
                    for src in range(1 if settings["skip_first"] else 0, dest + 1):
                        pair = layer, head, dest, src
                        p = Head(model, acts, pair).products if relative else products(acts, model.svd, pair)
                        found = choose_slice(p, product_bounds(acts, model.svd, pair), settings["tau"])
                        (self.fired if pair in fired else self.idle)[place, *pair] = found
                        self.products[place, *pair] = p


def used_vectors(pairs: Pairs, layer: int, head: int) -> list[int]:
    """The vectors that a head uses."""
    slices = [found.members for key, found in pairs.fired.items() if key[1:3] == (layer, head)]
    times = {k: sum(k in members for members in slices) for k in {k for members in slices for k in members}}
    often = sorted(k for k in times if times[k] >= len(slices) / 2)
    if often or not times:
        return often
    return [min(k for k in times if times[k] == max(times.values()))]


def token_norms(
    model: Model, pairs: Pairs, prompts: Sequence[Any], layer: int, head: int, vectors: Sequence[int], side: str
) -> dict[int, float]:
    """Each token's mean norm of P [x, 1] without its last entry, P onto the span of U's or V's columns."""
    columns = (model.svd.U if side == "dest" else model.svd.V)[layer, head][:, list(vectors)]
    P = columns @ columns.T
    found: dict[int, list[float]] = {}
    for prompt, acts in zip(prompts, pairs.acts, strict=True):
        for position in range(last_traced(prompt) + 1):
            projected = with_one(acts["ln1_x"][layer, position]) @ P
            found.setdefault(int(get(prompt, "tokens")[position]), []).append(float(np.linalg.norm(projected[:-1])))
    return {token: float(np.mean(norms)) for token, norms in found.items()}


def span_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared cosine of the principal angles between two spans of orthonormal columns."""
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    return float((cosines**2).sum() / min(one.shape[1], other.shape[1]))


def head_contributions(
    model: Model,
    acts: Acts,
    firing: tuple[int, int, int, int],
    members: Sequence[int],
    method: str,
    side: str,
) -> list[float]:
    """c_w of every head below a firing, by any set of vectors (section 5; `relative`: section 14.2)."""
    if method == "relative":
        its = Head(model, acts, firing)
        below = [writer for writer in writers(model.config, firing[0]) if writer.kind == "head"]
        return [float(its.M @ its.row(writer, side, members)) for writer in below]
    found = contributions(model.params, model.config, acts, model.svd, firing, members, method, side)
    return [c.value for c in found if c.writer.kind == "head"]


def concentration(values: Sequence[float]) -> dict[str, float]:
    """How concentrated contributions are: shares of Σ|c| of the top 1 and 5, exp of the entropy, |Σc| / Σ|c|."""
    sizes = sorted((abs(value) for value in values), reverse=True)
    gross = sum(sizes)
    shares = [size / gross for size in sizes]
    return {
        "top1": shares[0],
        "top5": sum(shares[:5]),
        "effective": float(np.exp(-sum(share * np.log(share) for share in shares if share > 0))),
        "net": abs(sum(values)) / gross,
    }

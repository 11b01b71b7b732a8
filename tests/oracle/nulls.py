"""Chance, by loops (METHOD.md, section 12): statistics under given draws, p-values, false-discovery rates.

The draws are arguments: which indices, which orthogonal matrices, which partners. What a null does with them is worked
out here in float64, one firing and one writer at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .circuit import get, labels, last_traced, roles_of
from .heads import choose_slice, firings, with_one
from .model import Acts, forward
from .relative import RELATIVE, Head, relative_firings
from .signals import Firing, coverage_cut, row_read, writers
from .tracing import DEFAULTS, Model, slice_of

Candidate = tuple[str, str, str, str]
"""Writer, reader, role of the token, side."""

Terms = np.ndarray
"""[writer sv]: what each writer allowed put along each vector, not yet weighed by the method's coefficients."""


def readings(acts: Acts, model: Model, firing: Firing, *, relative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """q̂ and k̂ of a firing in the singular gauge, 0 beyond the rank; under `relative` κ for k̂."""
    if relative:
        its = Head(model, acts, firing)
        return its.q, its.kappa
    layer, head, dest, src = firing
    root = np.sqrt(model.svd.S[layer, head])
    root[model.svd.rank[layer, head] :] = 0.0
    q = with_one(acts["ln1_x"][layer, dest]) @ model.svd.U[layer, head] * root
    k = with_one(acts["ln1_x"][layer, src]) @ model.svd.V[layer, head] * root
    return q, k


def terms_of(
    model: Model, own: Acts, other: Acts, firing: Firing, settings: Mapping[str, Any], side: str
) -> tuple[list[str], Terms]:
    """Names of the writers allowed and their terms; outputs are `other`'s, the scale s is the firing's own."""
    layer, head, dest, src = firing
    token = dest if side == "dest" else src
    scaled = dict(other)
    scaled["ln1_scale"] = own["ln1_scale"]
    vectors = (model.svd.U if side == "dest" else model.svd.V)[layer, head] * np.sqrt(model.svd.S[layer, head])
    vectors[:, model.svd.rank[layer, head] :] = 0.0
    names, rows = [], []
    relative = settings["method"] == "relative"
    tokens, method = [(token, 1.0)], "exact" if relative else settings["method"]
    if relative and side == "src":
        tokens = list(enumerate(key_values(Head(model, own, firing), settings["keys"])))
    for writer in writers(model.config, layer):
        if writer.kind != "head" and (method != "exact" or settings["writers"] == "heads"):
            continue
        if writer.kind == "const" and relative and side == "src":
            continue
        names.append(writer.name)
        read = [value * row_read(model.params, scaled, writer, layer, t, method) @ vectors for t, value in tokens]
        rows.append(sum(read))
    return names, np.array(rows)


def key_values(head: Head, keys: str) -> np.ndarray:
    """What the row of a writer is worth to it, key by key (section 14.2)."""
    if keys == "summed":
        return head.M
    at_src = np.arange(len(head.M)) == head.src
    return head.M[head.src] * (at_src - 1 / len(head.M))


def shares(
    q: np.ndarray, k: np.ndarray, members: Sequence[int], terms: Terms, settings: Mapping[str, Any], side: str
) -> list[float]:
    """c_w / Σ_w |c_w| where section 6 chooses w and c_w > 0, else 0."""
    weights = []
    for row in terms:
        c = 0.0
        for m in members:
            if settings["method"] in ("exact", "relative"):
                c += row[m] * (k[m] if side == "dest" else q[m])
            else:
                c += row[m] * np.sign(q[m])
        weights.append(c)
    chosen = coverage_cut(weights, settings["coverage"]).chosen
    size = sum(abs(c) for c in weights)
    return [c / size if w in chosen and c > 0 else 0.0 for w, c in enumerate(weights)]


class Case:
    """All firings of all prompts, and what every null needs of them."""

    def __init__(
        self, model: Model, prompts: Sequence[Any], settings: Mapping[str, Any], blocks: float | None = None
    ) -> None:
        """With `blocks`, vectors whose σ lie that close to the one before, relatively, are taken together."""
        self.blocks = blocks
        self.relative = settings.get("method") == "relative"
        self.model, self.prompts = model, prompts
        self.settings = DEFAULTS | (RELATIVE if self.relative else {}) | dict(settings)
        find = relative_firings if self.relative else firings
        self.acts = [forward(model.params, model.config, get(prompt, "tokens")) for prompt in prompts]
        self.firings = [
            (at, firing)
            for at, prompt in enumerate(prompts)
            for firing in find(self.acts[at], self.settings, last_traced(prompt))
        ]
        lengths = [len(get(prompt, "tokens")) for prompt in prompts]
        self.partnered = [lengths.count(length) > 1 for length in lengths]

    def members(self, at: int, firing: Firing) -> list[int]:
        """S as observed."""
        if self.blocks is not None or self.relative:
            q, k = self._readings(at, firing)
            return self._chosen(q * k, firing)
        return slice_of(self.model, self.acts[at], firing, self.settings).members

    def statistics(
        self,
        members: Callable[[int, Firing], Sequence[int]] | None = None,
        rotation: Callable[[Firing], np.ndarray] | None = None,
        partner: Sequence[int] | None = None,
    ) -> dict[Candidate, float]:
        """The statistic of every candidate, under one draw of one null or, without any, as observed.

        Args:
            partner: of each prompt; prompts without one are then left out.
        """
        sums: dict[Candidate, float] = {}
        count: dict[str, int] = {}
        for at, firing in self.firings:
            if partner is not None and not self.partnered[at]:
                continue
            reader = f"{firing[0]}.{firing[1]}"
            count[reader] = count.get(reader, 0) + 1
            for key, share in self._of_firing(at, firing, members, rotation, partner):
                sums[key] = sums.get(key, 0.0) + share
        return {key: total / count[key[1]] for key, total in sums.items()}

    def _of_firing(
        self, at: int, firing: Firing, members: Any, rotation: Any, partner: Any
    ) -> list[tuple[Candidate, float]]:
        q, k = self._readings(at, firing)
        S = self.members(at, firing) if members is None else list(members(at, firing))
        R = np.eye(len(q))
        if rotation is not None:
            R = rotation(firing)
            q, k = q @ R, k @ R
            if self.settings["method"] != "all":
                S = self._chosen(q * k, firing)
        found = []
        role_at = labels(roles_of(self.prompts[at]))
        other = self.acts[at if partner is None else partner[at]]
        for side, token in (("dest", firing[2]), ("src", firing[3])):
            if self.settings["sides"] not in ("both", side):
                continue
            names, terms = terms_of(self.model, self.acts[at], other, firing, self.settings, side)
            for name, share in zip(names, shares(q, k, S, terms @ R, self.settings, side), strict=True):
                found.append(((name, f"{firing[0]}.{firing[1]}", role_at.get(token, "other"), side), share))
        return found

    def sizes(self, rotation: Callable[[Firing], np.ndarray]) -> list[int]:
        """|S| of every firing in turned bases."""
        found = []
        for at, firing in self.firings:
            q, k = self._readings(at, firing)
            R = rotation(firing)
            p = (q @ R) * (k @ R)
            found.append(len(self._chosen(p, firing)))
        return found

    def _readings(self, at: int, firing: Firing) -> tuple[np.ndarray, np.ndarray]:
        return readings(self.acts[at], self.model, firing, relative=self.relative)

    def _chosen(self, p: np.ndarray, firing: Firing) -> list[int]:
        """Section 4's rule, of single vectors or of blocks of them."""
        tau, S = self.settings["tau"], self.model.svd.S[firing[0], firing[1]]
        if self.blocks is None:
            return list(choose_slice(p, np.zeros(len(p)), tau).members)
        rank = int(self.model.svd.rank[firing[0], firing[1]])
        together = [[0]]
        for k in range(1, rank):
            if S[k - 1] - S[k] <= self.blocks * S[k - 1]:
                together[-1].append(k)
            else:
                together.append([k])
        sums = np.array([sum(p[k] for k in block) for block in together])
        taken = choose_slice(sums, np.zeros(len(sums)), tau).members
        return sorted(k for block in taken for k in together[block])


def p_value(observed: float, nulls: Sequence[float], tie: float = 0.0) -> float:
    """(1 + nulls ≥ observed) / (1 + nulls); what lies within `tie` of it, relatively, is as large."""
    return (1 + sum(1 for null in nulls if null >= observed * (1 - tie))) / (1 + len(nulls))


def q_values(p: Sequence[float]) -> list[float]:
    """Benjamini–Hochberg: of each test the least rate, among its own and all larger p, at which it is rejected."""
    n = len(p)
    found = []
    for mine in p:
        rates = [theirs * n / sum(1 for each in p if each <= theirs) for theirs in p if theirs >= mine]
        found.append(min(1.0, math.inf if not rates else min(rates)))
    return found

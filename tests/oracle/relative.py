"""Relative attention (METHOD.md, section 14): why a head attends to j and not to the other keys, firing by firing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .circuit import PATHS_LIMIT, Key, Row, get, key, last_traced
from .heads import EPS32, Slice, choose_slice, running_sums, softmax, with_one
from .model import Acts, attn_scale, forward, norm_parameters
from .relative_roots import root_firings
from .signals import Firing, Writer, coverage_cut, share_of_x, writers, written
from .tracing import Model, Trace, prepare

RELATIVE: dict[str, Any] = {
    "threshold": 0.5,
    "tau": 1.0,
    "coverage": 0.7,
    "select": "cover",
    "keys": "summed",
    "writers": "all",
    "roots": "all",
    "targets": "answer",
    "sides": "both",
    "skip_first": True,
    "processing": "folded",
}
"""What changes numbers under the method `relative`, with its defaults."""


class Candidate(NamedTuple):
    """What may be chosen as an edge: its value, the row over the keys that leaves the scores with it, c_{w,j}."""

    writer: Writer
    token: int
    value: float
    row: np.ndarray
    own: float | None


class Chosen(NamedTuple):
    """Which candidates are edges, in the order of the candidates, and what belongs to them."""

    candidates: list[int]
    drops: dict[int, float]
    total: float
    unreached: bool
    near_tie: bool
    end: float


def path_weights(scores: np.ndarray, j: int, panels: int = 64) -> np.ndarray:
    """M of section 14.1, its integral by a finer rule than the one that is held against it."""
    nodes, node_weights = np.polynomial.legendre.leggauss(16)
    edges = np.concatenate([[0.0], np.geomspace(2.0**-8, 1.0, panels)])
    own = np.arange(len(scores)) == j
    total = np.zeros(len(scores))
    for low, high in pairwise(edges):
        alpha = low + (nodes + 1) / 2 * (high - low)
        power = np.exp(alpha[:, None] * (scores - scores.max()))
        p = power / power.sum(axis=1, keepdims=True)  # [node key]
        total += (high - low) / 2 * (node_weights * p[:, j]) @ (own - p)
    return total


def threshold_at(threshold: float | str, dest: int) -> float:
    """θ_i of section 14.3."""
    return min(1.0, 2.5 / (dest + 1)) if threshold == "dynamic" else float(threshold)


def relative_firings(acts: Acts, settings: Mapping[str, Any], last: int, first_layer: int = 1) -> list[Firing]:
    """Where heads fire by section 14.3: no condition on the score, i ≥ 1."""
    n_layers, n_heads = acts["pattern"].shape[:2]
    return [
        (layer, head, dest, src)
        for layer in range(first_layer, n_layers)
        for head in range(n_heads)
        for dest in range(1, last + 1)
        for src in range(1 if settings["skip_first"] else 0, dest + 1)
        if acts["pattern"][layer, head, dest, src] >= threshold_at(settings["threshold"], dest)
    ]


class Head:
    """One firing's head: its vectors within the rank, scaled, its row of scores and path weights."""

    def __init__(self, model: Model, acts: Acts, firing: Firing) -> None:
        self.model, self.acts, self.firing = model, acts, firing
        layer, head, dest, src = firing
        self.layer, self.dest, self.src = layer, dest, src
        self.sigma, self.rank = model.svd.S[layer, head], int(model.svd.rank[layer, head])
        root = np.sqrt(self.sigma)
        root[self.rank :] = 0.0
        self.A, self.B = model.svd.U[layer, head] * root, model.svd.V[layer, head] * root
        self.scale = attn_scale(model.config, layer)
        self.q = with_one(acts["ln1_x"][layer, dest]) @ self.A
        self.k = np.stack([with_one(acts["ln1_x"][layer, t]) @ self.B for t in range(dest + 1)])
        self.scores = acts["scores"][layer, head, dest, : dest + 1]
        self.pattern = softmax(self.scores)[src]
        self.M = path_weights(self.scores, src)
        self.kappa = self.scale * self.M @ self.k
        self.products = self.q * self.kappa
        gaps = [
            min([abs(each - other) for m, other in enumerate(self.sigma) if m != k], default=np.inf)
            for k, each in enumerate(self.sigma)
        ]
        with np.errstate(divide="ignore"):
            self.turn = np.asarray([EPS32 * self.sigma[0] / gap for gap in gaps])

    def product_bounds(self) -> np.ndarray:
        """Section 14.4's bound of every P_k."""
        apart = self.scale * np.abs(self.M) @ np.linalg.norm(self.k - self.k[self.src], axis=1)
        bounds = (np.linalg.norm(self.q) + math.sqrt(self.sigma[0])) * apart * (5e-5 + np.minimum(1, 4 * self.turn))
        bounds[self.rank :] = 0.0
        return bounds

    def score_bound(self) -> float:
        """δ: the largest bound of a scaled score of the row."""
        root = math.sqrt(self.sigma[0])
        largest = np.linalg.norm(self.k, axis=1).max()
        return 5e-5 * self.scale * (np.linalg.norm(self.q) + root) * (largest + root)

    def alpha(self, writer: Writer, side: str, token: int, y: np.ndarray | None = None) -> np.ndarray:
        """√σ_k u_k·[x_w, 0] (or v_k) of every k, x_w of what a writer, or the part y of it, wrote at a token."""
        vectors, params = self.A if side == "dest" else self.B, self.model.params
        if writer.kind == "const":
            return np.concatenate([norm_parameters(params, "ln1", self.layer)[1], [1.0]]) @ vectors
        y = written(params, self.acts, writer, token) if y is None else y
        return share_of_x(params, "ln1", self.layer, y, self.acts["ln1_scale"][self.layer, token]) @ vectors[:-1]

    def row(self, writer: Writer, side: str, members: Sequence[int]) -> np.ndarray:
        """What a writer puts into the scores over the keys, through S."""
        S = list(members)
        if side == "dest":
            return self.scale * self.k[:, S] @ self.alpha(writer, side, self.dest)[S]
        rows = [self.scale * self.q[S] @ self.alpha(writer, side, t)[S] for t in range(self.dest + 1)]
        return np.asarray(rows)

    def bound(self, side: str, members: Sequence[int], allowed: Sequence[Writer]) -> float:
        """Section 14.4's bound of the c_w of one side."""
        S = list(members)
        e = 5e-5 + max((self.turn[k] for k in S), default=0.0)
        amounts, ranges = [0.0], [0.0]
        for writer in allowed:
            if side == "dest":
                spread = self.scale * np.abs(self.M) @ np.abs(self.k - self.k[self.src])
                amounts.append(float(np.abs(self.alpha(writer, side, self.dest)[S]) @ spread[S]))
            else:
                each = [np.abs(self.q * self.alpha(writer, side, t))[S].sum() for t in range(self.dest + 1)]
                amounts.append(float(self.scale * np.abs(self.M) @ each))
            ranges.append(np.ptp(self.row(writer, side, members)))
        return max(amounts) * e + self.score_bound() / 4 * max(ranges)


def candidates(head: Head, side: str, members: Sequence[int], settings: Mapping[str, Any]) -> list[Candidate]:
    """The candidates of one side in the order that decides between equals (sections 14.2 and 14.4)."""
    allowed = [w for w in writers(head.model.config, head.layer) if settings["writers"] == "all" or w.kind == "head"]
    if side == "dest":
        rows = [head.row(w, side, members) for w in allowed]
        return [Candidate(w, head.dest, float(head.M @ row), row, None) for w, row in zip(allowed, rows, strict=True)]
    found, n_keys, j = [], head.dest + 1, head.src
    for writer in allowed:
        if writer.kind == "const":
            continue
        row = head.row(writer, side, members)
        beyond = row - row.mean()
        each = head.M * beyond
        alone = [np.where(np.arange(n_keys) == t, beyond, 0.0) for t in range(n_keys)]
        keys = "summed" if settings["keys"] == "all" and head.dest == 1 else settings["keys"]
        if keys == "summed":
            found.append(Candidate(writer, j, float(head.M @ row), beyond, each[j]))
        elif keys == "own":
            found.append(Candidate(writer, j, each[j], alone[j], each[j]))
        else:
            found += [Candidate(writer, t, each[t], alone[t], each[j]) for t in range(n_keys)]
    return found


def until(head: Head, found: Sequence[Candidate], theta: float, bound: float) -> Chosen:
    """Take the largest out of the scores until the pattern is below θ (section 14.4)."""
    order = sorted(range(len(found)), key=lambda c: (-found[c].value, c))
    left, before, taken, drops, unreached, near = head.scores.copy(), head.pattern, [], {}, False, False
    while True:
        following = found[order[len(taken)]] if len(taken) < len(order) else None
        if taken and before < theta:
            break
        if following is None or following.value <= 0:
            unreached = bool(taken)
            break
        near = bool(taken) and abs(before - theta) <= len(taken) * bound / 2
        left = left - following.row
        after = softmax(left)[head.src]
        drops[order[len(taken)]] = before - after
        taken.append(order[len(taken)])
        before = after
    near = near or abs(before - theta) <= len(taken) * bound / 2
    if taken and len(taken) < len(order):
        near = near or found[taken[-1]].value - found[order[len(taken)]].value <= 2 * bound
    total = running_sums(sorted((c.value for c in found), reverse=True))[-1]
    return Chosen(sorted(taken), drops, total, unreached, bool(taken) and near, before)


def choose(head: Head, found: Sequence[Candidate], settings: Mapping[str, Any], bound: float) -> Chosen:
    """The edges of one side by the rule that is asked for."""
    if settings["select"] == "until":
        return until(head, found, threshold_at(settings["threshold"], head.dest), bound)
    cut = coverage_cut([c.value for c in found], settings["coverage"], bound)
    return Chosen(sorted(cut.chosen), {}, cut.total, False, cut.near_tie, head.pattern)


def parts_by_attended(head: Head, side: str, members: Sequence[int], chosen: Candidate) -> np.ndarray:
    """c_{w,b} or c_{w,t,b} of a head writer, for every b it attends to (section 14.5)."""
    writer, t, S, acts = chosen.writer, chosen.token, list(members), head.acts
    assert writer.layer is not None
    assert writer.head is not None
    mean = head.row(writer, side, members).mean()
    found = []
    for b in range(t + 1):
        attended = acts["pattern"][writer.layer, writer.head, t, b]
        y = acts["v"][writer.layer, b, writer.head] @ head.model.params["W_O"][writer.layer, writer.head]
        alpha = head.alpha(writer, side, t, y)[S]
        if side == "dest":
            found.append(attended * (head.kappa[S] @ alpha))
        else:
            found.append(head.M[t] * attended * (head.scale * head.q[S] @ alpha - mean))
    return np.asarray(found)


def through(parts: np.ndarray, coverage: float) -> list[int]:
    """Which of the keys an edge goes through: section 6's rule; none where no part is positive."""
    return sorted(coverage_cut(list(parts), coverage).chosen) if parts.max() > 0 else []


def trace_firing(
    model: Model, acts: Acts, prompt: int, firing: Firing, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """One firing's row, its edges' rows and its details."""
    layer, number, dest, src = firing
    head = Head(model, acts, firing)
    chosen: Slice = choose_slice(head.products, head.product_bounds(), settings["tau"])
    place = {"prompt": prompt, "layer": layer, "head": number, "dest": dest, "src": src}
    row = place | {
        "pattern": float(acts["pattern"][firing]),
        "score": float(acts["scores"][firing]),
        "total": chosen.total,
        "size": len(chosen.members),
        "slice": chosen.members,
        "products": chosen.products,
        "near_tie": chosen.near_tie,
        "quadrature": abs(float(head.products.sum()) - (head.pattern - 1 / (dest + 1))),
    }
    details: dict[str, Any] = {"head": head, "bounds": head.product_bounds(), "slice": chosen}
    edges = []
    for side in ("dest", "src"):
        if settings["sides"] not in ("both", side):
            continue
        found = candidates(head, side, chosen.members, settings)
        bound = head.bound(side, chosen.members, list({c.writer: None for c in found}))
        edged = choose(head, found, settings, bound)
        details[side] = {"found": found, "bound": bound, "chosen": edged}
        for c in edged.candidates:
            each = found[c]
            goes = None
            if each.writer.kind == "head":
                goes = through(parts_by_attended(head, side, chosen.members, each), settings["coverage"])
            edges.append(
                place
                | {
                    "writer": each.writer.name,
                    "writer_layer": each.writer.layer,
                    "writer_head": each.writer.head,
                    "side": side,
                    "token": each.token,
                    "weight": each.value,
                    "share": None if edged.total == 0 else each.value / edged.total,
                    "near_tie": edged.near_tie,
                    "nonpositive_total": edged.total <= 0,
                    "own": each.own,
                    "drop": edged.drops.get(c),
                    "unreached": edged.unreached,
                    "through": goes,
                }
            )
    return row, edges, details


def relative_paths(firings: Sequence[Row], edges: Sequence[Row], roots: Sequence[Key]) -> dict[Key, int]:
    """Paths over pairs (edge, b): an edge from head u.a at t through b leads to the firing u.a at (t, b)."""
    paths = {key(row): 0 for row in firings}
    for root in roots:
        paths[root] += 1
    for row in sorted(firings, key=lambda row: -row["layer"]):
        for edge in edges:
            if key(edge) != key(row):
                continue
            for b in edge["through"] or []:
                target = edge["prompt"], edge["writer_layer"], edge["writer_head"], edge["token"], b
                if target in paths:
                    paths[target] += paths[key(row)]
    return paths


def relative_trace(
    params: Mapping[str, Any], config: Mapping[str, Any], prompts: Sequence[Any], settings: Mapping[str, Any]
) -> Trace:
    """Trace prompts one by one under the method `relative`; `roots` is `all` or names firings."""
    settings = RELATIVE | {name: value for name, value in settings.items() if name in RELATIVE}
    model = prepare(params, config, settings["processing"])
    whole = Trace([], [], [], [], {}, {})
    for index, prompt in enumerate(prompts):
        acts = forward(model.params, model.config, get(prompt, "tokens"))
        rows: list[dict[str, Any]] = []
        edges: list[dict[str, Any]] = []
        for firing in relative_firings(acts, settings, last_traced(prompt)):
            row, its_edges, detail = trace_firing(model, acts, index, firing, settings)
            rows.append(row)
            edges += its_edges
            whole.details[key(row)] = detail
        roots = root_firings(model, acts, index, prompts, rows, settings)
        paths = relative_paths(rows, edges, roots)
        for row in [*rows, *edges]:
            row["paths"] = min(paths[key(row)], PATHS_LIMIT)
        whole.all_firings.extend(rows)
        whole.all_edges.extend(edges)
        whole.firings.extend(row for row in rows if row["paths"] > 0)
        whole.edges.extend(row for row in edges if row["paths"] > 0)
        whole.roots[index] = roots
    return whole

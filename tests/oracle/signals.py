"""Who wrote what a head reads: writers, contributions, edges, direct effects (METHOD.md, sections 5, 6 and 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .heads import Decomposition, running_sums, turns, with_one
from .model import Acts, Config, Params, centre, is_folded, norm_parameters

Firing = tuple[int, int, int, int]


class Writer(NamedTuple):
    """One part of the residual: its name as tables show it, its kind, its layer and head where it has them."""

    name: str
    kind: str
    layer: int | None = None
    head: int | None = None


class Contribution(NamedTuple):
    """c_w of one writer, Σ_{k∈S} |term|, and how far float32 may carry it (section 4)."""

    writer: Writer
    value: float
    magnitude: float
    bound: float


class Cut(NamedTuple):
    """Which of the values are chosen (indices, in the order given), the total of all, and whether it was close."""

    chosen: list[int]
    total: float
    near_tie: bool


def writers(config: Config, layer: int) -> list[Writer]:
    """The writers of what layer `layer` reads, const last, in section 5's order; `n_layers` stands for the output."""
    below = range(layer)
    found = [Writer(f"{m}.{a}", "head", m, a) for m in below for a in range(config["n_heads"])]
    found += [Writer(f"attn_bias.{m}", "attn_bias", m) for m in below]
    found += [Writer(f"mlp.{m}", "mlp", m) for m in below]
    return [*found, Writer("embed", "embed"), Writer("pos", "pos"), Writer("const", "const")]


def written(params: Params, acts: Acts, writer: Writer, token: int) -> np.ndarray:
    """y [d_model]: what a writer other than const added to the residual at a token (section 5)."""
    if writer.kind == "head":
        return acts["head_out"][writer.layer, token, writer.head]
    if writer.kind == "attn_bias":
        return params["b_O"][writer.layer]
    if writer.kind == "mlp":
        return acts["mlp_out"][writer.layer, token]
    if writer.kind in ("embed", "pos"):
        return acts[writer.kind][token]
    raise ValueError(f"{writer.name} writes nothing to the residual")


def share_of_x(params: Params, name: str, layer: int | None, y: np.ndarray, scale: float) -> np.ndarray:
    """x_w = γ ⊙ (y C)/s, or y/s in a folded model: a writer's part of what is read, s held (section 5)."""
    if is_folded(params):
        return y / scale
    gamma, _ = norm_parameters(params, name, layer)
    return gamma * centre(y) / scale


def row_read(params: Params, acts: Acts, writer: Writer, layer: int, token: int, method: str) -> np.ndarray:
    """The row [d_model+1] of a writer that singular vectors are applied to (section 5).

    `exact`: [x_w, 0], and [β, 1] for const. `paper` and `all`: [y, 1]/s folded, [x_w, 1/s] raw.
    """
    if writer.kind == "const":
        return with_one(norm_parameters(params, "ln1", layer)[1])
    scale = acts["ln1_scale"][layer, token]
    x_w = share_of_x(params, "ln1", layer, written(params, acts, writer, token), scale)
    return np.append(x_w, 0.0 if method == "exact" else 1.0 / scale)


def contributions(
    params: Params,
    config: Config,
    acts: Acts,
    svd: Decomposition,
    firing: Firing,
    members: Sequence[int],
    method: str,
    side: str,
) -> list[Contribution]:
    """c_w of every writer of one side of a firing, in section 5's order; heads alone in `paper` and `all`.

    Args:
        params: float64, raw or folded; `acts` and `svd` are theirs.
        members: S, or every k within the rank for `all`.
        side: `dest` or `src`.
    """
    layer, head, dest, src = firing
    U, S, V = svd.U[layer, head], svd.S[layer, head], svd.V[layer, head]
    x_dest, x_src = with_one(acts["ln1_x"][layer, dest]), with_one(acts["ln1_x"][layer, src])
    token = dest if side == "dest" else src
    own, other, x_other = (U, V, x_src) if side == "dest" else (V, U, x_dest)
    rank, root, theta = range(svd.rank[layer, head]), np.sqrt(S), turns(S)
    if method == "exact":
        beta = {k: root[k] * (other[:, k] @ x_other) for k in rank}
    else:
        beta = {k: float(np.sign(x_dest @ U[:, k])) for k in rank}
    found = []
    for writer in writers(config, layer):
        if method != "exact" and writer.kind != "head":
            continue
        row = row_read(params, acts, writer, layer, token, method)
        alpha = {k: root[k] * (own[:, k] @ row) for k in rank}
        terms = [alpha[k] * beta[k] for k in members]
        bound = contribution_bound(S, theta, members, alpha, beta, row, x_other if method == "exact" else None)
        found.append(Contribution(writer, float(sum(terms)), float(sum(abs(term) for term in terms)), bound))
    return found


def contribution_bound(
    sigma: np.ndarray,
    theta: np.ndarray,
    members: Sequence[int],
    alpha: Mapping[int, float],
    beta: Mapping[int, float],
    row: np.ndarray,
    x_other: np.ndarray | None,
) -> float:
    """How far float32 may carry one writer's c_w = Σ_{k∈S} α_k β_k (section 4); a side's bound is its writers' largest.

    Args:
        theta: of every k, see `turns`.
        alpha, beta: of every k within the rank.
        row: what the writer gives to read, [x_w, 0] or [y, 1]/s or [β, 1].
        x_other: x̃ of the other side, in `exact`; None where β is a sign.
    """
    eps = float(np.finfo(np.float32).eps)
    all_alpha = math.sqrt(sum(each**2 for each in alpha.values()))
    all_beta = 0.0 if x_other is None else math.sqrt(sum(each**2 for each in beta.values()))
    read = 0.0 if x_other is None else float(np.linalg.norm(x_other))
    total = 0.0
    for k in members:
        a, b = abs(alpha[k]), abs(beta[k])
        total += 5e-5 * a * b + theta[k] * (all_alpha * b + a * all_beta)
        total += 16 * eps * math.sqrt(sigma[k]) * (float(np.linalg.norm(row)) * b + read * a)
    return total


def coverage_cut(values: Sequence[float], coverage: float, bound: float = 0.0) -> Cut:
    """The rule of section 6: descending, up to the first running sum > coverage × total, equals of the last included.

    Where section 6 leaves room: the total is the last running sum; equal values keep the writers' order. Near a tie,
    as for slices: the running sum at the cut, or just before it, within √w × bound of coverage × total (the empty
    sum is exact), or the last chosen and the first not chosen within 2 × bound of each other. Where no running sum
    exceeds, the cut is after the positive values.
    """
    order = sorted(range(len(values)), key=lambda w: (-values[w], w))
    sums = running_sums([values[w] for w in order])
    total = sums[-1]
    size = next((n for n in range(1, len(sums)) if sums[n] > coverage * total), None)
    if size is None:
        chosen = [w for w in range(len(values)) if values[w] > 0]
        size = len(chosen)
    else:
        chosen = [w for w in range(len(values)) if values[w] >= values[order[size - 1]]]
    near = any(n > 0 and abs(sums[n] - coverage * total) <= math.sqrt(n) * bound for n in (size, size - 1))
    if 0 < len(chosen) < len(order):
        near = near or values[order[len(chosen) - 1]] - values[order[len(chosen)]] <= 2 * bound
    return Cut(chosen, total, near)


def signal_projector(svd: Decomposition, firing: Firing, members: Sequence[int], side: str) -> np.ndarray:
    """P [d_model d_model]: onto the span of the first d_model rows of U_S or V_S, dependent vectors dropped."""
    vectors = (svd.U if side == "dest" else svd.V)[firing[0], firing[1]][:-1, list(members)]
    left, sigma, _ = np.linalg.svd(vectors, full_matrices=False)
    basis = left[:, sigma > max(vectors.shape) * np.finfo(np.float64).eps * sigma.max(initial=0.0)]
    return basis @ basis.T


def direction(
    params: Params, acts: Acts, token: int, answer: int | None, distractor: int | None
) -> tuple[np.ndarray, float]:
    """Section 11's a [d_model] with b_U's part: answer − distractor, else the top token − the mean over tokens."""
    W_U, b_U = params["W_U"], params["b_U"]
    if answer is not None and distractor is not None:
        return W_U[:, answer] - W_U[:, distractor], b_U[answer] - b_U[distractor]
    top = int(np.argmax(acts["logits"][token]))
    return W_U[:, top] - W_U.mean(axis=1), b_U[top] - b_U.mean()


def direct_effects(
    params: Params, config: Config, acts: Acts, token: int, answer: int | None = None, distractor: int | None = None
) -> list[tuple[Writer, float]]:
    """Each writer's direct effect at a token (section 11), const (β·a, b_U) last; they sum to the logit difference."""
    a, offset = direction(params, acts, token, answer, distractor)
    scale = acts["ln_final_scale"][token]
    effects = []
    for writer in writers(config, config["n_layers"]):
        if writer.kind == "const":
            effects.append((writer, float(norm_parameters(params, "ln_final")[1] @ a + offset)))
        else:
            y = written(params, acts, writer, token)
            effects.append((writer, float(share_of_x(params, "ln_final", None, y, scale) @ a)))
    return effects

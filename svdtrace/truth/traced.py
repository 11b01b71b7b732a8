"""What a trace finds in a planted model: edges by role, and how its signals lie to those that were planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from svdtrace.method.decomposition import Decomposition
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.circuit_graph import OTHER
from svdtrace.tracing.trace import Trace
from svdtrace.truth.circuits import Wire
from svdtrace.truth.drawing import SIDES
from svdtrace.truth.outcomes import Edge, Firing, Outcome


def outcomes(trace: Trace, prompts: Sequence[Prompt]) -> list[Outcome]:
    """What the trace finds in each prompt; tokens without a role are called `other`."""
    role = [{place: name for name, place in prompt.roles.items()} for prompt in prompts]
    edges: list[set[Edge]] = [set() for _ in prompts]
    firings: list[set[Firing]] = [set() for _ in prompts]
    for prompt, (reader, i, j), _ in _firings(trace):
        firings[prompt].add((reader, role[prompt].get(i, OTHER), role[prompt].get(j, OTHER)))
    names = ("prompt", "writer", "layer", "head", "side", "token", "dest", "src")
    for prompt, writer, layer, head, side, *tokens in _rows(trace.edges, names):
        edges[prompt].add(Edge(writer, f"{layer}.{head}", side, *(role[prompt].get(each, OTHER) for each in tokens)))
    return [Outcome(frozenset(found), frozenset(reached)) for found, reached in zip(edges, firings, strict=True)]


def angles(
    trace: Trace,
    prompts: Sequence[Prompt],
    decomposition: Decomposition,
    signals: Mapping[Wire, Float[np.ndarray, "d_model r"]],
) -> Float[np.ndarray, "signal 2"]:
    """How each true signal that a traced firing reads lies to the one planted there.

    The signal found is the span of U_S (destination) or V_S (source) without their last entry (METHOD.md, section 5).

    Returns:
        The largest principal angle in degrees, and how many dimensions the signal found has, for every prompt's
        planted firing and side that was traced.
    """
    planted = {wire.place: signal for wire, signal in signals.items()}
    vectors = dict(zip(SIDES, (np.asarray(decomposition.U), np.asarray(decomposition.V)), strict=True))
    known: dict[tuple, tuple[float, int]] = {}
    found = []
    for prompt, (reader, i, j), members in _firings(trace):
        names = {place: name for name, place in prompts[prompt].roles.items()}
        layer, head = map(int, reader.split("."))
        for side in SIDES:
            place = (reader, side, names.get(i, OTHER), names.get(j, OTHER))
            key = (*place, *sorted(members))
            if place in planted and members and key not in known:
                spanned = vectors[side][layer, head, :-1][:, members]
                known[key] = (largest_angle(spanned, planted[place]), len(members))
            if key in known:
                found.append(known[key])
    return np.asarray(found, float).reshape(-1, 2)


def largest_angle(a: Float[np.ndarray, "d n"], b: Float[np.ndarray, "d m"]) -> float:
    """The largest principal angle in degrees between two subspaces, of which the smaller has min(n, m) angles.

    Small angles come from sines, large ones from cosines (Björck & Golub 1973), since arccos loses half the digits
    near 0.
    """
    small, large = sorted((_basis(a), _basis(b)), key=lambda basis: basis.shape[1])
    if not small.shape[1]:
        return 90.0
    inside = large.T @ small
    cosine = np.linalg.svd(inside, compute_uv=False).min()
    sine = np.linalg.svd(small - large @ inside, compute_uv=False).max()
    angle = np.arcsin(min(sine, 1.0)) if sine < cosine else np.arccos(min(cosine, 1.0))
    return float(np.degrees(angle))


def _basis(columns: np.ndarray) -> np.ndarray:
    U, S, _ = np.linalg.svd(np.asarray(columns, float), full_matrices=False)
    # Singular vectors of an offset alone are nothing in the residual.
    return U[:, S > 1e-3 * max(S.max(initial=0), 1e-3)]  # noqa: SIM300


def _firings(trace: Trace) -> list[tuple[int, tuple[str, int, int], list[int]]]:
    names = ("prompt", "layer", "head", "dest", "src", "slice")
    rows = _rows(trace.firings, names)
    return [(prompt, (f"{layer}.{head}", i, j), members) for prompt, layer, head, i, j, members in rows]


def _rows(table: pa.Table, names: Sequence[str]) -> list[tuple]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))

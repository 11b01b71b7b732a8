"""What signals mean: their nearest tokens, their likeness, and whether one serves several readers (section 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gpt2jax.residual import unembedding
from svdtrace.characterisation.directions import signals_of
from svdtrace.characterisation.filtering import HeadEdges
from svdtrace.characterisation.usage import HeadUsage, observed_batches
from svdtrace.config import TraceConfig
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES

MOST_SIGNALS = 40
MOST_OCCURRENCES = 64
NEAREST = 8
OTHER = "other"


@dataclass(frozen=True)
class EdgeKind:
    """Edges that share writer, reader, side and the role of the token; `rows` of the edges, `weight` their sum."""

    writer: tuple[int, int]
    reader: tuple[int, int]
    side: str
    role: str
    rows: np.ndarray
    weight: float

    def __str__(self) -> str:
        return f"{self.writer[0]}.{self.writer[1]}→{self.reader[0]}.{self.reader[1]} {self.role}/{self.side}"


@dataclass(frozen=True)
class Signals:
    """The strongest kinds of edges and their signals.

    `direction` [kind d_model]: the mean signal, of norm 1; `norm`, `kept` (signal's norm over that of what was
    written) means over occurrences; `agreement` the norm of the mean of signals of norm 1: 1 where all are alike.
    """

    kinds: tuple[EdgeKind, ...]
    direction: np.ndarray
    norm: np.ndarray
    kept: np.ndarray
    agreement: np.ndarray

    def cosines(self) -> np.ndarray:
        """Between the mean signals of any two kinds, [kind kind]."""
        return self.direction @ self.direction.T


def strongest_kinds(edges: HeadEdges, prompts: Sequence[Prompt], n_heads: int) -> tuple[EdgeKind, ...]:
    """The kinds of edges with the largest summed weight, at most `MOST_SIGNALS`."""
    # Of several roles at one position the last listed wins (section 8).
    at = [{position: role for role, position in prompt.roles.items()} for prompt in prompts]
    names = sorted({OTHER, *(role for each in at for role in each.values())})
    place = {name: number for number, name in enumerate(names)}
    role = np.asarray(
        [place[at[prompt].get(token, OTHER)] for prompt, token in zip(edges.prompt, edges.token, strict=True)]
    )
    if not len(role):
        return ()
    keys = np.stack([edges.writer, edges.layer, edges.head, edges.side, role], axis=-1)
    kinds, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    totals = np.bincount(which, weights=edges.weight)
    found = []
    for number in np.argsort(-totals, kind="stable")[:MOST_SIGNALS]:
        writer, layer, head, side, label = (int(each) for each in kinds[number])
        rows = np.flatnonzero(which == number)
        found.append(
            EdgeKind(divmod(writer, n_heads), (layer, head), SIDES[side], names[label], rows, float(totals[number]))
        )
    return tuple(found)


def signals_between(
    prepared: Prepared, usage: HeadUsage, edges: HeadEdges, config: TraceConfig, kinds: Sequence[EdgeKind]
) -> Signals:
    """Project what writers wrote onto the slices that read it, at up to `MOST_OCCURRENCES` places of every kind."""
    shape, decomposition = prepared.model.config, prepared.decomposition
    rows = np.full((len(kinds), MOST_OCCURRENCES), -1)
    for number, kind in enumerate(kinds):
        # Spread over all of them, so that no prompt decides alone.
        picked = kind.rows[np.unique(np.linspace(0, len(kind.rows) - 1, MOST_OCCURRENCES).astype(int))]
        rows[number, : len(picked)] = picked
    chosen = edges.take(np.maximum(rows, 0).reshape(-1))
    members = usage.firings.members[_firing_rows(usage, chosen)].reshape(*rows.shape, -1)
    prompt, token = chosen.prompt.reshape(rows.shape), chosen.token.reshape(rows.shape)
    vectors = np.stack(
        [np.asarray((decomposition.U if kind.side == "dest" else decomposition.V)[kind.reader]) for kind in kinds]
    )
    writer = np.asarray([kind.writer for kind in kinds], np.int32)
    sent = np.zeros((*rows.shape, shape.d_model), vectors.dtype)
    wrote = np.zeros(rows.shape, vectors.dtype)
    for batch, observed in observed_batches(prepared, usage.prompts, config):
        row_of = {int(place): row for row, place in enumerate(batch.place[: len(batch.prompts)])}
        here = np.isin(prompt, list(row_of)) & (rows >= 0)
        if not here.any():
            continue
        at = np.vectorize(lambda place, row_of=row_of: row_of.get(int(place), 0), otypes=[np.int32])(prompt)
        places = np.stack([at, np.where(here, token, 0).astype(np.int32)], axis=-1)
        found, norm = signals_of(observed.z, places, writer, prepared.model.params.blocks.W_O, vectors, members)
        sent[here], wrote[here] = np.asarray(found)[here], np.asarray(norm)[here]
    return _averaged(tuple(kinds), sent, wrote, rows >= 0)


def nearest_tokens(prepared: Prepared, direction: Float[np.ndarray, "kind d_model"]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens whose columns of the unembedding have the largest cosine with a direction, and the cosines."""
    W_U = np.asarray(unembedding(prepared.model.params), direction.dtype)
    size = np.linalg.norm(W_U, axis=0)
    cosines = direction @ W_U / np.where(size > 0, size, 1)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
    return order, np.take_along_axis(cosines, order, axis=1)


def _averaged(kinds: tuple[EdgeKind, ...], sent: np.ndarray, wrote: np.ndarray, filled: np.ndarray) -> Signals:
    norm = np.linalg.norm(sent, axis=-1)
    count = filled.sum(axis=1)
    unit = sent / np.where(norm > 0, norm, 1)[..., None]
    mean = sent.sum(axis=1) / count[:, None]
    size = np.linalg.norm(mean, axis=-1, keepdims=True)
    kept = norm / np.where(wrote > 0, wrote, 1)
    return Signals(
        kinds=kinds,
        direction=mean / np.where(size > 0, size, 1),
        norm=norm.sum(axis=1) / count,
        kept=kept.sum(axis=1) / count,
        agreement=np.linalg.norm(unit.sum(axis=1) / count[:, None], axis=-1),
    )


def _firing_rows(usage: HeadUsage, edges: HeadEdges) -> np.ndarray:
    """The row of each edge's firing; firings stand sorted by (prompt, layer, head, dest, src)."""
    longest = max(len(prompt.tokens) for prompt in usage.prompts)

    def key(each: Any) -> np.ndarray:
        number = np.asarray(each.prompt, np.int64)
        sizes = (("layer", usage.model.n_layers), ("head", usage.model.n_heads), ("dest", longest), ("src", longest))
        for name, size in sizes:
            number = number * size + getattr(each, name)
        return number

    return np.searchsorted(key(usage.firings.where), key(edges))

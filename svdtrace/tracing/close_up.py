"""What stands behind the firings of the first prompts, key by key and vector by vector: what is shown of one sentence.

A trace's tables say how much a writer put into a slice; here it is split over the slice's vectors, and a firing's score
stands in its row. Done on the host, from what the pass left: for a few prompts that is cheap, for all it would not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.residual import unembedding
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.tracing.batching import Batch
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pipeline import BatchTrace
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.relative import RelativeFound
from svdtrace.tracing.rows import Chunk, EdgeRows, Ragged, WriterOrder

TOKENS = 512
"""The first prompts are looked at closely that have together no more tokens, and the very first in any case."""
FIRINGS, EDGES = 400, 8
"""Of a prompt the firings with the largest scores; of each of their sides the edges with the largest weights."""
LIKELIEST = 5
VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Seen:
    """What a pass left of the prompts of a batch that are looked at closely, on the host; see `Observed`.

    Args:
        row: where they stand in the batch.
    """

    row: Int[np.ndarray, " looked"]
    q: Float[np.ndarray, "layer looked tok head d_head"]
    k: Float[np.ndarray, "layer looked tok head d_head"]
    z: Float[np.ndarray, "layer looked tok head d_head"]
    scale: Float[np.ndarray, "layer looked tok"]
    mlp_out: Float[np.ndarray, "layer looked tok d_model"] | None
    embed: Float[np.ndarray, "looked tok d_model"] | None
    pos: Float[np.ndarray, "looked tok d_model"] | None
    final_read: Float[np.ndarray, "looked d_model"]


@dataclass(frozen=True)
class CloseUps:
    """Firings and edges of a batch that are looked at closely.

    Args:
        firing, edge: their rows in the batch's.
        scores: of each firing over the keys 0 to dest, attn_scale applied; path: M likewise, under `relative` alone.
        by_vector: of each edge its parts through the vectors of the slice, in the slice's order.
        put: of each edge what its writer put into the scores, key by key; under `relative` alone.
        token, probability: the likeliest tokens at the last traced token of each prompt; None without an unembedding.
    """

    firing: Int[np.ndarray, " firing"]
    scores: list[np.ndarray]
    path: list[np.ndarray] | None
    edge: Int[np.ndarray, " edge"]
    by_vector: list[np.ndarray]
    put: list[np.ndarray] | None
    token: Int[np.ndarray, "looked rank"] | None
    probability: Float[np.ndarray, "looked rank"] | None


def looked_at(lengths: Sequence[int]) -> int:
    """How many of the first prompts are looked at closely, by their lengths in tokens."""
    together = np.cumsum(lengths)
    return max(1, int(np.searchsorted(together, TOKENS, side="right")))


def seen(observed: Observed, batch: Batch, many: int) -> Seen | None:
    """What is kept of a batch; None where none of the first `many` prompts is in it.

    On a CPU this looks into the pass's own memory, which a later batch may then not take over.
    """
    row = np.flatnonzero((batch.place >= 0) & (batch.place < many)).astype(np.int32)
    if not len(row):
        return None
    on_cpu = next(iter(observed.z.devices())).platform == "cpu"

    def taken(values: Array | None, axis: int) -> np.ndarray | None:
        if values is None:
            return None
        return np.asarray(values).take(row, axis) if on_cpu else np.asarray(values.take(row, axis))

    by_layer = {name: taken(getattr(observed, name), 1) for name in ("q", "k", "z", "scale", "mlp_out")}
    by_prompt = {name: taken(getattr(observed, name), 0) for name in ("embed", "pos", "final_read")}
    return Seen(row=row, **by_layer, **by_prompt)  # pyright: ignore[reportArgumentType]


def close_ups(
    prepared: Prepared, kept: Seen, trace: BatchTrace, chunks: Sequence[Chunk], config: TraceConfig
) -> CloseUps:
    """Look closely at a batch's prompts that were kept.

    Args:
        trace: the batch's; chunks: what its rows were gathered from.
    """
    firings, edges = trace.rows.firings, trace.rows.edges
    at = np.full(len(trace.batch.place), -1)
    at[kept.row] = np.arange(len(kept.row))
    mine = np.flatnonzero(trace.kept & (at[firings.prompt] >= 0))
    firing = mine[_largest(firings.prompt[mine], firings.score[mine], FIRINGS)]
    mine = np.flatnonzero(np.isin(edges.firing, firing))
    edge = mine[_largest(2 * edges.firing[mine] + edges.side[mine], edges.weight[mine], EDGES)]
    look = _Look(prepared, kept, trace, at, config)
    path = _path(chunks, firing, kept.scale.shape[-1]) if config.method == RELATIVE else None
    by_vector, put = look.of_edges(edge, firing, path)
    token, probability = _likeliest(prepared, kept)
    return CloseUps(
        firing=firing,
        scores=look.scores(firing),
        path=None if path is None else _up_to(path, firings.dest[firing]),
        edge=edge,
        by_vector=by_vector,
        put=put,
        token=token,
        probability=probability,
    )


def _largest(group: np.ndarray, size: np.ndarray, most: int) -> Int[np.ndarray, " row"]:
    """The rows with the largest sizes of each group, so many at most, in the order in which they stand."""
    order = np.lexsort((-size, group))
    first = np.searchsorted(group[order], group[order], side="left")
    return np.sort(order[np.arange(len(order)) - first < most])


def _path(chunks: Sequence[Chunk], firing: np.ndarray, n_tokens: int) -> Float[np.ndarray, "firing tok"]:
    found = np.zeros((len(firing), n_tokens), np.float32)
    for chunk in chunks:
        assert isinstance(chunk.result, RelativeFound)
        wanted = np.isin(chunk.row, firing)
        found[np.searchsorted(firing, chunk.row[wanted])] = np.asarray(chunk.result.weights)[wanted]
    return found


def _up_to(rows: np.ndarray, dest: np.ndarray) -> list[np.ndarray]:
    """Each row up to its destination: behind it there is no key."""
    return [row[: last + 1] for row, last in zip(rows, dest, strict=True)]


def _likeliest(prepared: Prepared, kept: Seen) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    params = prepared.model.params
    if not params.has_unembedding:
        return None, None
    logits = kept.final_read @ np.asarray(unembedding(params)).astype(kept.final_read.dtype)
    if params.b_U is not None:
        logits = logits + np.asarray(params.b_U).astype(logits.dtype)
    chance = np.exp(logits - logits.max(axis=-1, keepdims=True))
    token = np.argsort(-logits, axis=-1, kind="stable")[:, :LIKELIEST]
    return token, np.take_along_axis(chance / chance.sum(axis=-1, keepdims=True), token, -1)


@dataclass(frozen=True)
class _Look:
    """A batch's rows with what the pass left; `at` [prompt] says where a prompt of the batch stands in it."""

    prepared: Prepared
    kept: Seen
    trace: BatchTrace
    at: np.ndarray
    config: TraceConfig

    def scores(self, firing: np.ndarray) -> list[np.ndarray]:
        """`a q̂_i·k̂_t` over the keys."""
        found: list[np.ndarray] = []
        for part in _parts(firing, self._values_of_keys()):
            each, keys = self._of_firings(part), self._keys(part)
            scale = np.asarray(self.prepared.score_scale)[each["layer"]]
            q = self.kept.q[each["layer"], each["at"], each["dest"], each["head"]]
            found += _up_to(scale[:, None] * np.einsum("fh,fth->ft", q, keys), each["dest"])
        return found

    def of_edges(
        self, edge: np.ndarray, firing: np.ndarray, path: np.ndarray | None
    ) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        """Parts by vector, and under `relative` rows over the keys; reader's layer by layer."""
        edges, slices = self.trace.rows.edges, self.trace.rows.slices
        layers = self.trace.rows.firings.layer[edges.firing[edge]]
        parts: list[np.ndarray] = [np.zeros(0)] * len(edge)
        rows: list[np.ndarray] = [np.zeros(0)] * len(edge)
        for layer in np.unique(layers):
            reading = _Reading.of(self.prepared, int(layer))
            for number in _parts(np.flatnonzero(layers == layer), self._values_of_keys()):
                its = edges.take(edge[number])
                put: list[np.ndarray] = []
                if path is None:
                    values = self._plain(reading, its)
                else:
                    values, over_keys = self._relative(reading, its, path[np.searchsorted(firing, its.firing)])
                    put = _up_to(over_keys, self.trace.rows.firings.dest[its.firing])
                vectors = Ragged(slices.offset, slices.vectors).take(its.firing)
                owner = np.repeat(np.arange(len(number)), np.diff(vectors.offset))
                split = np.split(values[owner, vectors.values], vectors.offset[1:-1])
                for place, mine in zip(number, split, strict=True):
                    parts[place] = mine
                for place, row in zip(number, put, strict=False):
                    rows[place] = row
        return parts, None if path is None else rows

    def _plain(self, reading: _Reading, edges: EdgeRows) -> Float[np.ndarray, "edge sv"]:
        """`coefficient_k (x_w·Â_k + appended · b̂_k / s)` of section 5, over every k."""
        each = self._of_firings(edges.firing)
        exact, dest_side = self.config.method == "exact", edges.side[:, None] == 0
        q, k = (
            values[each["layer"], each["at"], each[end], each["head"]]
            for values, end in ((self.kept.q, "dest"), (self.kept.k, "src"))
        )
        coefficient = np.where(dest_side, k, q) if exact else np.sign(q)
        appended = 0.0 if exact else 1.0
        return coefficient * self._terms(reading, edges, edges.token[:, None], appended)[:, 0]

    def _relative(
        self, reading: _Reading, edges: EdgeRows, path: Float[np.ndarray, "edge tok"]
    ) -> tuple[Float[np.ndarray, "edge sv"], Float[np.ndarray, "edge tok"]]:
        """The same by section 14.2, and what the writer put into the scores of every key."""
        assert edges.relative is not None
        each, coefficient = self._of_firings(edges.firing), edges.relative.coefficient
        n_tokens, on_dest = path.shape[-1], edges.side == 0
        values, rows = np.zeros_like(coefficient), np.zeros_like(path)
        dest = edges.take(np.flatnonzero(on_dest))
        terms = self._terms(reading, dest, dest.token[:, None])[:, 0]
        values[on_dest] = coefficient[on_dest] * terms
        inside = np.where(coefficient[on_dest] != 0, terms, 0)
        rows[on_dest] = reading.scale * np.einsum("ek,etk->et", inside, self._keys(dest.firing))
        src = edges.take(np.flatnonzero(~on_dest))
        every = np.broadcast_to(np.arange(n_tokens), (len(src.firing), n_tokens))
        by_key = coefficient[~on_dest][:, None] * self._terms(reading, src, every)
        allowed = every <= each["dest"][~on_dest][:, None]
        rows[~on_dest] = np.where(allowed, by_key.sum(axis=-1), 0)
        values[~on_dest] = _weighed(by_key, path[~on_dest], allowed, src, each["dest"][~on_dest], self.config.keys)
        return values, rows

    def _terms(
        self, reading: _Reading, edges: EdgeRows, token: Int[np.ndarray, "edge at"], appended: float = 0.0
    ) -> Float[np.ndarray, "edge at sv"]:
        """`(y·Â_k + appended · b̂_k) / s` of each edge's writer, at some tokens."""
        each, writer, kept = self._of_firings(edges.firing), edges.writer, self.kept
        layer, head = reading.order.layer[writer], reading.order.head[writer]
        at, found = each["at"][:, None], np.zeros((*token.shape, reading.bias.shape[-1]), kept.z.dtype)
        heads = np.flatnonzero(head >= 0)
        z = kept.z[layer[heads, None], at[heads], token[heads], head[heads, None]]
        found[heads] = z @ reading.cores[edges.side[heads], each["head"][heads], layer[heads], head[heads]]
        bias = reading.bias[edges.side, each["head"]][:, None]
        scale = kept.scale[each["layer"][:, None], at, token][..., None]
        for number in np.flatnonzero(head < 0):
            kind, own = reading.order.labels[writer[number]].partition(".")[0], reading.weights[edges.side[number]]
            if kind == "const":
                # Not divided by the scale: it is no share of the residual.
                own_shift = reading.shift[edges.side[number], each["head"][number]]
                found[number] = (own_shift + bias[number, 0]) * scale[number]
                continue
            written = self._written(kind, int(layer[number]), int(each["at"][number]), token[number], reading)
            found[number] = written @ own[each["head"][number]]
        return (found + appended * bias) / scale

    def _written(
        self, kind: str, layer: int, at: int, token: np.ndarray, reading: _Reading
    ) -> Float[np.ndarray, "at d_model"]:
        """What a writer that is no head wrote at some tokens of a prompt."""
        kept = self.kept
        if kind == "attn_bias":
            return np.broadcast_to(reading.b_O[layer], (len(token), reading.b_O.shape[-1]))
        assert kept.mlp_out is not None
        assert kept.embed is not None
        assert kept.pos is not None
        if kind == "mlp":
            return kept.mlp_out[layer, at, token]
        return (kept.embed if kind == "embed" else kept.pos)[at, token]

    def _of_firings(self, firing: np.ndarray) -> dict[str, np.ndarray]:
        rows = self.trace.rows.firings
        places = {name: getattr(rows, name)[firing] for name in ("layer", "head", "dest", "src")}
        return places | {"at": self.at[rows.prompt[firing]]}

    def _keys(self, firing: np.ndarray) -> Float[np.ndarray, "firing tok sv"]:
        each = self._of_firings(firing)
        return self.kept.k[each["layer"], each["at"], :, each["head"]]

    def _values_of_keys(self) -> int:
        """Numbers that an edge or a firing takes: its keys, or a pair of heads' core."""
        n_tokens, d_head = self.kept.k.shape[2], self.kept.k.shape[-1]
        return max(n_tokens, d_head) * d_head


@dataclass(frozen=True)
class _Reading:
    """What one layer's heads read with, on the host; see `svdtrace.method.contributions.Reader`."""

    order: WriterOrder
    cores: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    shift: np.ndarray
    b_O: np.ndarray
    scale: float

    @classmethod
    def of(cls, prepared: Prepared, layer: int) -> _Reading:
        shape, own = prepared.model.config, prepared.readers[layer - 1]
        weights, bias, shift = (np.asarray(each) for each in (own.weights, own.bias, own.shift))
        return cls(
            order=WriterOrder.of(shape.n_layers, shape.n_heads),
            cores=np.asarray(prepared.cores(layer)),
            weights=weights,
            bias=bias,
            shift=shift,
            b_O=np.asarray(prepared.model.params.blocks.b_O).astype(weights.dtype),
            scale=float(np.asarray(prepared.score_scale)[layer]),
        )


def _weighed(
    by_key: Float[np.ndarray, "edge tok sv"],
    path: Float[np.ndarray, "edge tok"],
    allowed: Bool[np.ndarray, "edge tok"],
    edges: EdgeRows,
    dest: np.ndarray,
    keys: str,
) -> Float[np.ndarray, "edge sv"]:
    """The value of each vector's part on the source side: at every key, or at the edge's own against the mean."""
    summed = np.einsum("et,etk->ek", path, by_key)
    if keys == "summed":
        return summed
    mean = np.where(allowed[..., None], by_key, 0).sum(axis=1) / (dest[:, None] + 1)
    place = np.arange(len(dest))
    at_token = path[place, edges.token][:, None] * (by_key[place, edges.token] - mean)
    # With two keys both values of a writer are equal: it is one candidate.
    return np.where((keys == "all") & (dest == 1)[:, None], summed, at_token)


def _parts(rows: np.ndarray, each: int) -> Iterator[np.ndarray]:
    """Some rows at a time, where one takes so many values."""
    size = max(1, VALUES_AT_ONCE // each)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

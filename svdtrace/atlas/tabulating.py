"""The tables of an atlas filled from what was surveyed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from svdtrace.atlas.chance import score_chance, share_chance
from svdtrace.atlas.directions import USES, main_directions
from svdtrace.atlas.factors import SIDES
from svdtrace.atlas.medians import beyond_medians, ranks
from svdtrace.atlas.positions import Positions
from svdtrace.atlas.positivity import positivities
from svdtrace.atlas.schemas import filled
from svdtrace.atlas.surveying import READ_SIDES, Layer, Survey

MOST_USED = 5
DIRECTIONS = 10
POSITIONS_KEPT = 24
"""Positions whose scores are written."""


@dataclass(frozen=True)
class Pairs:
    """Numbers of pairs [side reader writer], NaN or 0 where the writer is no earlier head."""

    score: np.ndarray
    null_mean: np.ndarray
    null_sd: np.ndarray
    rank: np.ndarray
    beyond: np.ndarray
    beyond_rank: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """How far a score lies above its null's mean, in the null's standard deviations."""
        known = self.null_sd > 0
        return np.where(known, (self.score - self.null_mean) / np.where(known, self.null_sd, 1), np.nan)


def pairs_of(found: Survey) -> Pairs:
    """Scores beside their null and beside other scores."""
    score = found.score.astype(np.float64)
    mean, deviation = score_chance(found.writer_purity[None, None], found.read_purity[..., None], found.d_model)
    beyond = beyond_medians(score)
    return Pairs(score, mean, deviation, ranks(score), beyond, ranks(beyond))


def head_names(n_layers: int, n_heads: int) -> list[str]:
    """Every head, layer by layer."""
    return [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]


def composition_table(found: Survey, pairs: Pairs) -> pa.Table:
    """`composition.parquet`, by reader, side, writer."""
    many, n_heads = found.n_layers * found.n_heads, found.n_heads
    earlier = np.arange(many)[None] // n_heads < np.arange(many)[:, None] // n_heads
    reader, side, writer = np.nonzero(np.broadcast_to(earlier[:, None], (many, len(SIDES), many)))
    at = side, reader, writer
    read = np.minimum(side, 1)
    of_vectors = side < 2
    columns = {
        "writer": names_at(head_names(found.n_layers, n_heads), writer),
        "writer_layer": writer // n_heads,
        "writer_head": writer % n_heads,
        "layer": reader // n_heads,
        "head": reader % n_heads,
        "side": names_at(SIDES, side),
        "with_bias": np.where(of_vectors, found.with_bias[read, reader, writer], np.nan),
        "half": pa.array(found.half[read, reader, writer], mask=~of_vectors),
    }
    columns |= {name: getattr(pairs, name)[at] for name in ("score", "null_mean", "null_sd", "beyond")}
    for name in ("rank", "beyond_rank"):
        placed = getattr(pairs, name)[at]
        columns[name] = pa.array(placed, mask=placed == 0)
    unknown = np.isnan(columns["score"])
    columns |= {name: np.where(unknown, np.nan, columns[name]) for name in ("null_mean", "null_sd")}
    return filled("composition", columns)


def names_at(names: list[str] | tuple[str, ...], place: np.ndarray) -> pa.Array:
    """A column of strings, by their places in a list."""
    return pa.array(names).take(pa.array(place))


def vectors_tables(found: Layer, d_model: int) -> tuple[pa.Table, pa.Table]:
    """One layer of readers' part of `vectors.parquet` and of `blocks.parquet`, by reader, side, writer, vector."""
    n_heads = len(found.within)
    names = head_names(found.layer, n_heads)
    block = np.asarray(found.reading.block)
    size = (block[:, None, :] == np.arange(block.shape[-1])[None, :, None]).sum(axis=-1)

    def rows(kept: np.ndarray, share: np.ndarray, sizes: np.ndarray) -> dict[str, object]:
        whole = np.broadcast_to(kept[:, None, None], (n_heads, 2, len(names), kept.shape[-1]))
        head, side, writer, vector = np.nonzero(whole)
        values = share[side, head, writer, vector]
        mean, deviation = share_chance(
            found.writer_purity[writer].astype(np.float64), d_model, sizes[head, vector].astype(np.float64)
        )
        unknown = np.isnan(values)
        return {
            "writer": names_at(names, writer),
            "layer": np.full(len(head), found.layer),
            "head": head,
            "side": names_at(READ_SIDES, side),
            "vector": vector,
            "share": values,
            "null_mean": np.where(unknown, np.nan, mean),
            "null_sd": np.where(unknown, np.nan, deviation),
            "block": block[head, vector],
            "size": sizes[head, vector],
        }

    alone = filled("vectors", rows(found.within, found.share, np.ones_like(size)))
    return alone, filled("blocks", rows(found.within & (size > 1), found.block_share, size))


def singular_table(found: Layer, d_model: int, positions: Positions | None) -> pa.Table:
    """One layer's part of `singular.parquet`."""
    reading, within = found.reading, found.within
    n_heads, n_vectors = within.shape
    written = _written(found, d_model)
    head, vector = np.indices(within.shape)
    without = np.linalg.svd(np.asarray(found.heads.qk), compute_uv=False)
    columns = {
        "layer": np.full(within.shape, found.layer),
        "head": head,
        "vector": vector,
        "sigma": np.asarray(reading.S),
        "sigma_no_bias": without,
        "counts": within,
        "block": np.asarray(reading.block),
        "position_share": np.full((n_heads, n_vectors), np.nan) if positions is None else positions.share,
    }
    for side, name in enumerate(READ_SIDES):
        columns[f"bias_{name}"] = np.where(within, np.square(np.asarray(reading.bias[side])), np.nan)
        columns[f"written_{name}"] = written[side]
    return filled("singular", {name: values.reshape(-1) for name, values in columns.items()})


def _written(found: Layer, d_model: int) -> Float[np.ndarray, "read_side head sv"]:
    """The mean share of earlier heads on every vector, in units of chance; NaN where there is none."""
    masked = np.ma.masked_invalid(found.share)
    mean = masked.mean(axis=2).filled(np.nan) if found.share.shape[2] else np.full((2, *found.within.shape), np.nan)
    return np.where(found.within, mean * max(d_model - 1, 1), np.nan)


def heads_table(found: Layer, d_model: int, positions: Positions | None) -> pa.Table:
    """One layer's part of `heads.parquet`."""
    S = np.asarray(found.reading.S)
    without = np.linalg.svd(np.asarray(found.heads.qk), compute_uv=False)
    positive = positivities(found.blocks, 0)
    n_heads = len(S)
    unknown = np.full(n_heads, np.nan)
    columns = {
        "layer": np.full(n_heads, found.layer),
        "head": np.arange(n_heads),
        "sigma": S[:, 0],
        "sigma_2": S[:, 1] if S.shape[1] > 1 else unknown,
        "sigma_no_bias": without[:, 0],
        "sigma_2_no_bias": without[:, 1] if S.shape[1] > 1 else unknown,
        "qk_positivity": positive[0],
        "ov_positivity": positive[1],
        "qk_participation": 1 / np.asarray(found.heads.read_purity[0], np.float64),
        "ov_participation": 1 / np.asarray(found.heads.written_purity, np.float64),
        "position_spread": unknown if positions is None else positions.spread,
        "position_previous": unknown if positions is None else positions.previous,
        "position_self": unknown if positions is None else positions.own,
    }
    written = _written(found, d_model)
    for side, name in enumerate(READ_SIDES):
        columns[f"most_written_{name}"] = pa.array([_most(each) for each in written[side]], pa.list_(pa.int32()))
    return filled("heads", columns)


def _most(written: Float[np.ndarray, " sv"]) -> list[int]:
    order = np.argsort(-np.nan_to_num(written, nan=-1.0), kind="stable")[:MOST_USED]
    return [int(vector) for vector in order if not np.isnan(written[vector])]


def positions_table(layer: int, positions: Positions) -> pa.Table:
    """One layer's part of `positions.parquet`, the first positions alone."""
    few = positions.score[:, :POSITIONS_KEPT, :POSITIONS_KEPT]
    head, dest, src = np.nonzero(~np.isnan(few))
    columns = {"layer": np.full(len(head), layer), "head": head, "dest": dest + 1, "src": src + 1}
    return filled("positions", columns | {"score": few[head, dest, src]})


def directions_table(found: Survey) -> pa.Table:
    """`directions.parquet`."""
    shares, vectors = main_directions(np.asarray(found.used, np.float64), DIRECTIONS)
    use, direction = np.indices(shares.shape)
    largest = np.abs(vectors).argmax(axis=-1)
    entry = np.take_along_axis(vectors, largest[..., None], axis=-1)[..., 0]
    columns = {"direction": direction, "share": shares, "coordinate": largest, "coordinate_share": np.square(entry)}
    flat: dict[str, object] = {name: values.reshape(-1) for name, values in columns.items()}
    return filled("directions", {**flat, "use": names_at(USES, use.reshape(-1))})

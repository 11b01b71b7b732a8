"""An atlas made and written: tables that grow with pairs × vectors go to disk a layer of readers at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpt2jax.blocks import attn_scale
from gpt2jax.fingerprint import fingerprint
from gpt2jax.fold import fold
from gpt2jax.params import Model
from svdtrace.atlas import tabulating
from svdtrace.atlas.positions import Positions, main_directions, position_scores, read_positions
from svdtrace.atlas.prediction import edge_counts, prediction_tables
from svdtrace.atlas.result import Atlas
from svdtrace.atlas.schemas import SCHEMAS
from svdtrace.atlas.surveying import Layer, Survey, survey_layers
from svdtrace.atlas.tokens import tokens_by_layer
from svdtrace.errors import ModelError, TraceFolderError
from svdtrace.method.decomposition import singular_gauge
from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.results.in_parts import InParts
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.manifest import origin_facts

STREAMED = ("vectors", "blocks")
TOKEN_VECTORS = 8
LEAST_POSITIONS = 3
Progress = Callable[[int, int], None]


def write_atlas(
    model: Model,
    folder: str | Path,
    *,
    trace: InParts | None = None,
    token_vectors: int = TOKEN_VECTORS,
    progress: Progress | bool | None = None,
    mark: str | None = None,
) -> Atlas:
    """Read off the weights what every head can pass to every later one, and write it.

    Args:
        model: raw or folded; heads are enough (`gpt2jax.load(parts="heads")`). Position and token embeddings, where it
            holds them, give the tables of positions and tokens.
        folder: new, empty, or an earlier result, which is replaced.
        trace: of that model; how well the weights predict its edges is written too.
        token_vectors: of each head and matrix, whose tokens are listed.
        progress: called with layers done and layers in all. True shows a bar, in a terminal and in a notebook.
        mark: the fingerprint of the whole model, where this is a part of it; by default that of `model`.

    Raises:
        ModelError: the model holds no heads, or a matrix is not finite.
        TraceFolderError: the trace is of another model.
        OutputError: the folder holds something else, or cannot be written.
    """
    from svdtrace.atlas.pictures import draw_all
    from svdtrace.atlas.rendering import render

    blocks = model.params.blocks
    if any(each is None for each in (blocks.W_Q, blocks.W_K, blocks.W_V, blocks.W_O)):
        raise ModelError("the model holds no heads; load one with parts=None or parts='heads'")
    mark = fingerprint(model) if mark is None else mark
    _check(trace, mark)
    clock = Clock()
    with replaced_folder(folder) as staging, progressing(progress, "layers") as told:
        ends = fold(_without_blocks(model))
        found, tables, vectors = _survey(model, ends, token_vectors, staging, clock, told)
        with clock("tables"):
            pairs = tabulating.pairs_of(found)
            tables["composition"] = tabulating.composition_table(found, pairs)
            tables["directions"] = tabulating.directions_table(found)
        if trace is not None:
            with clock("trace"):
                counts = edge_counts(trace, found.n_layers, found.n_heads)
                tables["prediction"], tables["chosen"] = prediction_tables(counts, pairs, found.n_heads)
        manifest = _manifest(ends, mark, tables, vectors, trace)
        atlas = Atlas(tables, pairs, vectors.writers, vectors.share, manifest)
        with clock("pictures"):
            for name, table in tables.items():
                pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
            draw_all(atlas, staging)
            (staging / "atlas.html").write_text(render(atlas), encoding="utf-8")
        atlas = replace(atlas, manifest=manifest | {"seconds": clock.rounded()})
        write_manifest(staging, atlas.manifest)
    return atlas


def _check(trace: InParts | None, mark: str) -> None:
    known = None if trace is None else trace.manifest["model"].get("fingerprint")
    if known is not None and known != mark:
        raise TraceFolderError(
            f"the trace is of a model with fingerprint {known[:12]}…, this one has {mark[:12]}…; give its model"
        )


def _without_blocks(model: Model) -> Model:
    """What stands before and after the blocks."""
    none = replace(model.params.blocks, **{field.name: None for field in fields(model.params.blocks)})
    return replace(model, params=replace(model.params, blocks=none))


@dataclass
class _Vectors:
    """What is kept of shares on vectors once they are on disk: the strongest writers of each, and counts."""

    writers: np.ndarray
    share: np.ndarray
    rows: dict[str, int]

    def add(self, found: Layer) -> None:
        many, n_heads = self.writers.shape[-1], found.share.shape[1]
        rows = slice(found.layer * n_heads, (found.layer + 1) * n_heads)
        share = np.nan_to_num(found.share, nan=-1.0)
        order = np.argsort(-share, axis=2, kind="stable")[:, :, :many]
        few = order.shape[2]
        values = np.take_along_axis(found.share, order, axis=2)
        self.writers[:, rows, :, :few] = np.moveaxis(np.where(np.isnan(values), -1, order), 2, 3)
        self.share[:, rows, :, :few] = np.moveaxis(values, 2, 3)


def _survey(
    model: Model, ends: Model, token_vectors: int, staging: Path, clock: Clock, progress: Progress | None
) -> tuple[Survey, dict[str, pa.Table], _Vectors]:
    """Everything that is made layer by layer; `STREAMED` tables are written, the others returned.

    Args:
        ends: what stands before and after the blocks, folded.
    """
    config = model.config
    shape = 2, config.n_layers * config.n_heads, config.d_head, 5
    vectors = _Vectors(np.full(shape, -1), np.full(shape, np.nan, np.float32), dict.fromkeys(STREAMED, 0))
    survey = Survey(config.n_layers, config.n_heads, config.d_model)
    parts: dict[str, list[pa.Table]] = {"heads": [], "singular": [], "positions": [], "tokens": []}
    of_positions, of_tokens = _positions(ends), tokens_by_layer(ends, token_vectors)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(pq.ParquetWriter(staging / f"{name}.parquet", SCHEMAS[name], compression="zstd"))
            for name in STREAMED
        }
        layers = survey_layers(model)
        for number in range(config.n_layers):
            with clock("pairs"):
                found = next(layers)
                survey.add(found)
            with clock("positions"):
                positions = of_positions(found) if of_positions is not None else None
            with clock("tables"):
                vectors.add(found)
                both = tabulating.vectors_tables(found, config.d_model)
                for name, table in zip(STREAMED, both, strict=True):
                    files[name].write_table(table)
                    vectors.rows[name] += table.num_rows
                parts["heads"].append(tabulating.heads_table(found, config.d_model, positions))
                parts["singular"].append(tabulating.singular_table(found, config.d_model, positions))
                if positions is not None:
                    parts["positions"].append(tabulating.positions_table(number, positions))
            with clock("tokens"):
                if of_tokens is not None:
                    parts["tokens"].append(of_tokens(found))
            if progress is not None:
                progress(number + 1, config.n_layers)
    return survey, {name: pa.concat_tables(each) for name, each in parts.items() if each}, vectors


def _positions(ends: Model) -> Callable[[Layer], Positions] | None:
    """What a layer's heads make of positions, for a model that has enough of them."""
    W_pos, config = ends.params.W_pos, ends.config
    if W_pos is None or W_pos.shape[0] < LEAST_POSITIONS:
        return None
    x = read_positions(np.asarray(W_pos), config.layer_norm_epsilon)

    def of_layer(found: Layer) -> Positions:
        A, B = (np.asarray(each[0]) for each in singular_gauge(found.decomposition))
        return position_scores(x, A, B, float(attn_scale(config, found.layer, jnp.dtype(jnp.float32))))

    return of_layer


def _manifest(
    model: Model, mark: str, tables: dict[str, pa.Table], vectors: _Vectors, trace: InParts | None
) -> dict[str, Any]:
    config = model.config
    shape = {name: getattr(config, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")}
    singular = tables["singular"]
    counted = np.asarray(singular["counts"])
    block = np.asarray(singular["block"])
    first = np.asarray(singular["vector"]) == block
    # A vector shares a block with its neighbour below or above.
    near = ~first | np.append(~first[1:], False)
    content: dict[str, Any] = {
        **versions(),
        "command": "atlas",
        "model": {"fingerprint": mark, **origin_facts(model), "processing": model.processing, "shape": shape, **shape},
        "counts": {**vectors.rows, **{name: table.num_rows for name, table in tables.items()}},
        "near": round(float((near & counted).sum() / max(counted.sum(), 1)), 4),
    }
    if "positions" in tables:
        shares = main_directions(np.asarray(model.params.W_pos))[:10]
        content["position_directions"] = [round(float(share), 4) for share in shares]
    if trace is not None:
        content["trace"] = {name: trace.manifest[name] for name in ("config", "prompts", "counts")}
    return content

"""The page of an atlas: layers × heads, and of a chosen reader its writers beside chance; opens offline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from svdtrace.atlas.chance import share_chance
from svdtrace.atlas.factors import SIDES
from svdtrace.atlas.result import Atlas
from svdtrace.atlas.surveying import READ_SIDES
from svdtrace.atlas.tokens import ENDS, KINDS
from svdtrace.report.numbers import all_rounded, as_json, rounded
from svdtrace.report.offline import asset, policy, template

PACKAGE = "svdtrace.atlas"
SCRIPTS = ("atlas.js", "reader.js")
MOST_HEADS, MOST_WRITERS, FEW_WRITERS = 400, 400, 40
"""Models with more heads than this show a reader's strongest writers alone."""
OF_HEADS = ("qk_positivity", "ov_positivity", "ov_participation", "sigma", "sigma_no_bias", "position_previous")
OF_VECTORS = ("sigma", "bias_q", "bias_k", "written_q", "written_k", "position_share")


def render(atlas: Atlas) -> str:
    """The page; the same atlas gives the same page."""
    shape = atlas.manifest["model"]["shape"]
    own = "\n".join([asset("page/dom.js"), *(asset(f"page/{name}", PACKAGE) for name in SCRIPTS)])
    script = f'\n(() => {{\n"use strict";\n{own}}})();\n'
    many = shape["n_layers"] * shape["n_heads"]
    shown = FEW_WRITERS if many > MOST_HEADS else MOST_WRITERS
    return template("atlas.html.j2", PACKAGE).render(
        policy=policy([script]),
        style=Markup(asset("page/style.css") + asset("page/atlas.css", PACKAGE)),
        script=Markup(script),
        data=Markup(as_json(_data(atlas, shown))),
        shape=shape,
        heads=many,
        pairs=atlas.tables["composition"].num_rows // len(SIDES),
        origin=atlas.manifest["model"].get("hub_id") or f"{shape['n_layers']} layers of {shape['n_heads']} heads",
        shown=shown if many > MOST_HEADS else None,
        has_positions="positions" in atlas.tables,
        version=atlas.manifest["version"],
    )


def _data(atlas: Atlas, most: int) -> dict[str, Any]:
    """What the page draws, as JSON has it."""
    shape, tables = atlas.manifest["model"]["shape"], atlas.tables
    many, d_head = shape["n_layers"] * shape["n_heads"], shape["d_head"]
    singular = {name: _column(tables["singular"], name).reshape(many, d_head) for name in OF_VECTORS}
    counts = np.asarray(tables["singular"]["counts"]).reshape(many, d_head)
    block = np.asarray(tables["singular"]["block"]).reshape(many, d_head)
    purity = 1 / _column(tables["heads"], "ov_participation")
    _, spread = share_chance(purity, shape["d_model"], np.ones(many))
    return {
        "layers": shape["n_layers"],
        "heads": shape["n_heads"],
        "chance": rounded(1 / max(shape["d_model"] - 1, 1), 6),
        # Of a share on one vector, in units of chance.
        "spread": all_rounded(spread * max(shape["d_model"] - 1, 1), 3),
        "of": {name: all_rounded(_column(tables["heads"], name), 3) for name in OF_HEADS},
        "writers": {
            side: [_writers(atlas, number, reader, most) for reader in range(many)] for number, side in enumerate(SIDES)
        },
        "vectors": [
            {
                **{name: all_rounded(values[reader][counts[reader]], 3) for name, values in singular.items()},
                "block": block[reader][counts[reader]].tolist(),
            }
            for reader in range(many)
        ],
        "strongest": {
            side: [_strongest(atlas, number, reader, int(counts[reader].sum())) for reader in range(many)]
            for number, side in enumerate(READ_SIDES)
        },
        "positions": _positions(tables, shape["n_heads"]),
        "tokens": _tokens(tables, many),
    }


def _writers(atlas: Atlas, side: int, reader: int, most: int) -> list[list[Any]]:
    """A reader's writers on one side, strongest first: writer, score, null mean, null sd, beyond, its rank."""
    pairs = atlas.pairs
    there = np.flatnonzero(~np.isnan(pairs.score[side, reader]))
    order = there[np.argsort(pairs.rank[side, reader, there], kind="stable")][:most]
    numbers = [values[side, reader, order] for values in (pairs.score, pairs.null_mean, pairs.null_sd, pairs.beyond)]
    columns = [
        order.tolist(),
        *(all_rounded(each) for each in numbers),
        pairs.beyond_rank[side, reader, order].tolist(),
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _strongest(atlas: Atlas, side: int, reader: int, count: int) -> list[list[Any]]:
    """Of every vector: the writers with the largest shares, and these, one after another."""
    found = []
    for vector in range(count):
        writers, share = atlas.strongest[side, reader, vector], atlas.share[side, reader, vector]
        known = writers >= 0
        found.append([*writers[known].tolist(), *all_rounded(share[known], 3)])
    return found


def _positions(tables: dict[str, pa.Table], n_heads: int) -> list[list[Any]] | None:
    """Of every head the scores at (dest, src), row by row."""
    if "positions" not in tables:
        return None
    table = tables["positions"]
    place = table["layer"].to_numpy() * n_heads + table["head"].to_numpy()
    score = table["score"].to_numpy()
    return [all_rounded(each, 3) for each in np.split(score, np.flatnonzero(np.diff(place)) + 1)]


def _tokens(tables: dict[str, pa.Table], many: int) -> dict[str, list[Any]] | None:
    """By kind and head, of every vector the tokens at its two ends."""
    if "tokens" not in tables:
        return None
    table = tables["tokens"]
    found: dict[str, list[Any]] = {}
    for kind in KINDS:
        mine = table.filter(pc.field("vectors") == kind)
        ranks = int(mine["rank"].to_numpy().max(initial=0))
        if ranks:
            strings = np.asarray(mine["string"].to_pylist(), object)
            found[kind] = strings.reshape(many, -1, len(ENDS), ranks).tolist()
    return found


def _column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)

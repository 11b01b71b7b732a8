"""The tables of a trace: their columns, listed once, and how host rows become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2jax.tokenizer import Tokenizer
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.columns import column, described, roles_at
from svdtrace.tracing.roots import RootHeads
from svdtrace.tracing.rows import SIDES, RelativeEdges, Rows, WriterOrder

_PAIR = (
    ("prompt", pa.int32(), "0-based place of the prompt in the input, rejected ones counted"),
    ("layer", pa.int32(), "layer of the reader, the head that fires"),
    ("head", pa.int32(), "head of the reader within its layer"),
    ("dest", pa.int32(), "destination i: the position of the query"),
    ("src", pa.int32(), "source j: the position of the key"),
)
PROMPTS = described(
    _PAIR[0],
    ("id", pa.string(), "the prompt's name, unique"),
    ("tokens", pa.list_(pa.int32()), "token ids, the beginning-of-text token included where it was asked for"),
    (
        "strings",
        pa.list_(pa.string()),
        "each token's own text; bytes of characters that are cut between tokens escaped",
    ),
    ("roles", pa.map_(pa.string(), pa.int32()), "position of each named role, in the prompt's own order"),
    ("answer", pa.int32(), "token id of the right answer, null without one"),
    ("distractor", pa.int32(), "token id of the wrong answer, null without one"),
    ("logit_difference", pa.float32(), "logit[answer] - logit[distractor] at the last traced token; null without both"),
    ("text", pa.string(), "running text of the prompt; null without a tokenizer"),
    *(
        (name, kind, f"{what}; null where roots are not from the output")
        for name, kind, what in (
            (
                "root_effects",
                pa.map_(pa.string(), pa.float32()),
                "direct effect of each root head on the direction, in logits (METHOD.md, section 11); of its parts that"
                " are roots, under roots probability in nats of the targets' log-probability (section 14.7)",
            ),
            (
                "target",
                pa.int32(),
                "token id whose logit the direction raises: the answer, or without it or the distractor the top token; "
                "under roots probability the likeliest target",
            ),
            ("target_string", pa.string(), "the target's own text"),
            (
                "target_probability",
                pa.float32(),
                "probability of the target at the last traced token; under roots probability of all targets together",
            ),
        )
    ),
)
FIRINGS = described(
    *_PAIR,
    ("pattern", pa.float32(), "attention probability at (dest, src)"),
    ("score", pa.float32(), "attention score before the softmax, attn_scale applied"),
    (
        "total",
        pa.float32(),
        "t, the sum of all products p_k: the score without attn_scale (METHOD.md, section 4); under relative of all "
        "P_k: attention probability beyond 1/(dest + 1) (section 14.2)",
    ),
    ("size", pa.int32(), "|S|, how many singular vectors make the score"),
    ("slice", pa.list_(pa.int32()), "S, the singular vectors as chosen, largest product first"),
    (
        "products",
        pa.list_(pa.float32()),
        "p_k (under relative P_k) of the vectors in slice, in the same order; unit of total",
    ),
    ("near_tie", pa.bool_(), "rounding may choose another slice (METHOD.md, section 4)"),
    ("paths", pa.int64(), "ways down to this firing from the roots, itself counted where it is one (section 7)"),
    ("dest_role", pa.string(), "role of dest, the last listed of several; null where it has none"),
    ("src_role", pa.string(), "role of src, likewise"),
)
EDGES = described(
    _PAIR[0],
    ("writer", pa.string(), "what wrote: 4.11, mlp.3, attn_bias.3, embed, pos, const"),
    ("writer_layer", pa.int32(), "layer of the writer; null where it has none"),
    ("writer_head", pa.int32(), "head of the writer; null where it is no head"),
    *_PAIR[1:],
    ("side", pa.string(), "what the writer wrote into: dest (the query) or src (the key)"),
    ("token", pa.int32(), "position at which it wrote: dest or src, by side"),
    ("weight", pa.float32(), "contribution c_w to the slice, unit of total (section 5)"),
    ("share", pa.float32(), "weight over the contributions of all writers allowed; null where they sum to 0"),
    ("near_tie", pa.bool_(), "rounding may choose other writers (section 6)"),
    ("nonpositive_total", pa.bool_(), "the contributions of all writers allowed sum to 0 or less"),
    ("paths", pa.int64(), "paths of the reader's firing: the edge's multiplicity (section 7)"),
    ("role", pa.string(), "role of token, the last listed of several; null where it has none"),
)
# What `relative` adds, behind those (section 14).
RELATIVE_FIRINGS = described(
    (
        "quadrature",
        pa.float32(),
        "error of the integral over the path: of the sum of all P_k against p_j - 1/(i+1) (section 14.9)",
    )
)
RELATIVE_EDGES = described(
    (
        "own",
        pa.float32(),
        "what the writer did at src itself, the rest of what it did it did to the other keys; null on the dest side",
    ),
    (
        "drop",
        pa.float32(),
        "by how much the pattern fell when this writer was taken out of the scores, at its turn; null under cover",
    ),
    (
        "through",
        pa.list_(pa.int32()),
        "positions that the writer attended to and that make up most of the edge; null where the writer is no head",
    ),
    ("unreached", pa.bool_(), "without all positive writers the head would still fire; false under cover"),
)
# What prompts have of the output.
WRITTEN = ("root_effects", "target", "target_string", "target_probability")
# The column that says which role the position in another one has.
ROLES = {"dest_role": "dest", "src_role": "src", "role": "token"}
# Columns that a folder of an earlier version may lack.
LATER = {*ROLES, "text", *WRITTEN}
# What further questions add to edges (sections 12 and 13).
STABILITY = column("stability", pa.float32(), "share of the reruns with other settings that have this edge")
P_VALUES = {
    kind: column(f"p_{kind}", pa.float64(), f"p-value against {null}; null where it says nothing of the writer")
    for kind, null in {
        "slices": "random slices",
        "bases": "random bases",
        "prompts": "writers' outputs of another prompt",
    }.items()
}
Q_VALUE = column("q_value", pa.float64(), "Benjamini-Hochberg over the candidates, of the largest p-value")


@dataclass(frozen=True)
class Written:
    """What prompts have of the output where roots come from it, column by column."""

    root_effects: list[list[tuple[str, float]]]
    target: list[int]
    target_string: list[str]
    target_probability: np.ndarray

    @classmethod
    def of(cls, heads: RootHeads, rows: np.ndarray, order: WriterOrder, tokenizer: Tokenizer | None) -> Written:
        """The columns of some rows of a batch; without a tokenizer a token's text is its id."""
        effect = np.asarray(heads.effect)[rows].reshape(len(rows), order.n_layers * order.n_heads)
        effects: list[list[tuple[str, float]]] = [[] for _ in effect]
        for prompt, writer in np.argwhere(np.asarray(heads.chosen)[rows].reshape(effect.shape)):
            effects[prompt].append((order.labels[writer], float(effect[prompt, writer])))
        target = np.asarray(heads.target)[rows].tolist()
        strings = [str(token) if tokenizer is None else tokenizer.strings([token])[0] for token in target]
        return cls(effects, target, strings, np.asarray(heads.probability)[rows])


def prompts_table(
    prompts: Sequence[Prompt],
    logit_difference: np.ndarray,
    places: Sequence[int] | np.ndarray | None = None,
    written: Written | None = None,
) -> pa.Table:
    """`prompts.parquet`; `places` are the prompts' 0-based places in the input, 0, 1, 2, … by default."""
    none = [None] * len(prompts)
    columns = [
        pa.array(range(len(prompts)) if places is None else places, pa.int32()),
        pa.array([prompt.id for prompt in prompts], pa.string()),
        pa.array([list(prompt.tokens) for prompt in prompts], pa.list_(pa.int32())),
        pa.array([list(prompt.strings) for prompt in prompts], pa.list_(pa.string())),
        pa.array([list(prompt.roles.items()) for prompt in prompts], pa.map_(pa.string(), pa.int32())),
        pa.array([prompt.answer for prompt in prompts], pa.int32()),
        pa.array([prompt.distractor for prompt in prompts], pa.int32()),
        defined(logit_difference),
        pa.array([prompt.text for prompt in prompts], pa.string()),
        *(pa.array(getattr(written, name, none), PROMPTS.field(name).type) for name in WRITTEN),
    ]
    return pa.table(columns, schema=PROMPTS)


def at_places(table: pa.Table, places: Sequence[int]) -> pa.Table:
    """The same table, its column `prompt` with each prompt's place in the whole input instead of among those given."""
    at, own, column = np.asarray(places, np.int32), table["prompt"].to_numpy(), table.schema.get_field_index("prompt")
    return table.set_column(column, table.schema.field(column), pa.array(at[own], pa.int32()))


def firings_table(
    rows: Rows, paths: np.ndarray, kept: np.ndarray, places: np.ndarray, prompts: Sequence[Prompt]
) -> pa.Table:
    """`firings.parquet`: the rows marked by `kept`; `places` maps a batch's prompts to their places in the input."""
    firings, slices = rows.firings, rows.slices
    chosen, roles = np.nonzero(kept)[0], [prompt.roles for prompt in prompts]
    start, stop = slices.offset[chosen], slices.offset[chosen + 1]
    size = stop - start
    members = np.repeat(start - np.concatenate([[0], np.cumsum(size)[:-1]]), size) + np.arange(size.sum())
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int32())
    columns = [
        places[firings.prompt[chosen]],
        *(getattr(firings, name)[chosen] for name in ("layer", "head", "dest", "src")),
        *(defined(column[chosen]) for column in (firings.pattern, firings.score, slices.total)),
        size.astype(np.int32),
        pa.ListArray.from_arrays(offsets, pa.array(slices.vectors[members], pa.int32())),
        pa.ListArray.from_arrays(offsets, defined(slices.products[members])),
        slices.near_tie[chosen],
        paths[chosen],
        *(roles_at(roles, firings.prompt[chosen], each[chosen]) for each in (firings.dest, firings.src)),
    ]
    schema = firings_schema(relative=slices.quadrature is not None)
    if slices.quadrature is not None:
        columns.append(defined(slices.quadrature[chosen]))
    return pa.table([pa.array(column) for column in columns], schema=schema)


def edges_table(
    rows: Rows,
    paths: np.ndarray,
    kept: np.ndarray,
    places: np.ndarray,
    prompts: Sequence[Prompt],
    order: WriterOrder,
) -> pa.Table:
    """`edges.parquet`: the edges of the firings marked by `kept`; an edge's multiplicity is its reader's paths."""
    firings = rows.firings
    edges = rows.edges.take(np.nonzero(kept[rows.edges.firing])[0])
    reader = edges.firing
    dest, src, token = firings.dest[reader], firings.src[reader], edges.token
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(edges.total == 0, np.nan, edges.weight / edges.total)
    columns = [
        places[firings.prompt[reader]],
        named(order.labels, edges.writer),
        _nullable(order.layer[edges.writer]),
        _nullable(order.head[edges.writer]),
        firings.layer[reader],
        firings.head[reader],
        dest,
        src,
        named(SIDES, edges.side),
        token,
        defined(edges.weight),
        defined(share),
        edges.near_tie,
        edges.total <= 0,
        paths[reader],
        roles_at([prompt.roles for prompt in prompts], firings.prompt[reader], token),
    ]
    schema = edges_schema(relative=edges.relative is not None)
    if edges.relative is not None:
        columns += _relative_columns(edges.relative, order.head[edges.writer] >= 0)
    return pa.table([pa.array(column) for column in columns], schema=schema)


def _relative_columns(relative: RelativeEdges, is_head: np.ndarray) -> list[Any]:
    """The columns of `RELATIVE_EDGES`."""
    through = relative.through
    assert through is not None
    start = pa.array(through.offset.astype(np.int32), mask=np.append(~is_head, False))
    lists = pa.ListArray.from_arrays(start, pa.array(through.values.astype(np.int32)))
    return [defined(relative.own), defined(relative.drop), lists, relative.unreached]


def firings_schema(*, relative: bool) -> pa.Schema:
    """The columns of `firings.parquet`."""
    return pa.schema([*FIRINGS, *RELATIVE_FIRINGS]) if relative else FIRINGS


def edges_schema(*, relative: bool) -> pa.Schema:
    """The columns of `edges.parquet`."""
    return pa.schema([*EDGES, *RELATIVE_EDGES]) if relative else EDGES


def with_nulls(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with null in columns that it lacks, behind its own."""
    for name in schema.names:
        if name not in table.column_names:
            table = table.append_column(schema.field(name), pa.nulls(len(table), schema.field(name).type))
    return table


def with_roles(prompts: pa.Table, rows: pa.Table) -> pa.Table:
    """Firings or edges that lack their columns of roles, with these; others as they are.

    Args:
        prompts: `prompts.parquet` of the same trace; rows: `firings.parquet` or `edges.parquet`.
    """
    schema = FIRINGS if "size" in rows.column_names else EDGES
    missing = [name for name in ROLES if name in schema.names and name not in rows.column_names]
    if not missing:
        return rows
    roles, number = [dict(each) for each in prompts["roles"].to_pylist()], prompts["prompt"].to_numpy()
    order = np.argsort(number, kind="stable")
    row = order[np.searchsorted(number, rows["prompt"].to_numpy(), sorter=order)] if len(number) else number
    for name in missing:
        column = roles_at(roles, row, rows[ROLES[name]].to_numpy())
        rows = rows.add_column(schema.get_field_index(name), schema.field(name), column)
    return rows


def defined(values: np.ndarray) -> pa.Array:
    """float32 with null in place of what is not a number, or no finite one."""
    values = np.asarray(values, np.float32)
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int32), pa.int32(), mask=values < 0)


def named(names: Sequence[str], codes: np.ndarray) -> pa.Array:
    """Names by their codes; null for a negative one."""
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int32), mask=codes < 0))

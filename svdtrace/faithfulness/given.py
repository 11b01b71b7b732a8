"""What a trace gives: its prompts, the k that its firings use at each token, its candidate edges with their weights."""

from __future__ import annotations

from dataclasses import dataclass, fields

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from svdtrace.config import TraceConfig
from svdtrace.errors import PromptError
from svdtrace.faithfulness.editing import Reading
from svdtrace.pictures.token_roles import TokenRoles, token_roles
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.batching import Batch
from svdtrace.tracing.pipeline import all_writers
from svdtrace.tracing.rows import SIDES, WriterOrder


@dataclass(frozen=True)
class Candidates:
    """Candidate edges, sorted by reader, side, role, writer; one entry each.

    `total` is the sum of the weights of the trace's edges (0 where it chose none), `traced` whether it chose any.
    """

    writer: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    side: np.ndarray
    role: np.ndarray
    total: np.ndarray
    traced: np.ndarray

    def __len__(self) -> int:
        return len(self.writer)

    def take(self, edges: np.ndarray) -> Candidates:
        """Some of them."""
        return Candidates(*(getattr(self, each.name)[edges] for each in fields(self)))

    def places(self) -> np.ndarray:
        """Where each stands in `editing.Ablation.edges`, [edge 5]."""
        return np.stack([self.role, self.layer - 1, self.side, self.head, self.writer], axis=1)

    def names(self, order: WriterOrder, roles: TokenRoles) -> list[str]:
        """Each as `WRITER:READER@ROLE/SIDE`."""
        columns = (self.writer, self.layer, self.head, self.role, self.side)
        return [
            f"{order.labels[writer]}:{layer}.{head}@{roles.names[role]}/{SIDES[side]}"
            for writer, layer, head, role, side in zip(*columns, strict=True)
        ]


@dataclass(frozen=True)
class Given:
    """The prompts of a trace that have both answer and distractor, in its order, with their firings and edges.

    `places` are their numbers in it; `left_out` counts the prompts without.
    """

    places: np.ndarray
    prompts: list[Prompt]
    roles: TokenRoles
    firings: pa.Table
    edges: pa.Table
    left_out: int


def given(prompts: pa.Table, firings: pa.Table, edges: pa.Table) -> Given:
    """The part of a trace on which a logit difference is defined.

    Raises:
        PromptError: no prompt has answer and distractor.
    """
    asked = prompts.filter(pa.array([None not in pair for pair in _pairs(prompts)], pa.bool_()))
    if not asked.num_rows:
        raise PromptError(
            "no prompt of the trace has an answer and a distractor, so there is no logit difference to measure; "
            "trace prompts that have both"
        )
    found = [
        Prompt(
            row["id"], tuple(row["tokens"]), tuple(row["strings"]), dict(row["roles"]), row["answer"], row["distractor"]
        )
        for row in asked.to_pylist()
    ]

    def of_asked(table: pa.Table) -> pa.Table:
        return table.filter(pa.array(np.isin(table["prompt"].to_numpy(), asked["prompt"].to_numpy())))

    left_out = prompts.num_rows - asked.num_rows
    return Given(asked["prompt"].to_numpy(), found, token_roles(asked), of_asked(firings), of_asked(edges), left_out)


def _pairs(prompts: pa.Table) -> list[tuple[int | None, int | None]]:
    return list(zip(prompts["answer"].to_pylist(), prompts["distractor"].to_pylist(), strict=True))


def candidates(source: Given, config: TraceConfig, order: WriterOrder) -> Candidates:
    """All edges that the trace could have chosen, at the firings that it found (METHOD.md, section 12), const aside."""
    layer, head = (source.firings[name].to_numpy() for name in ("layer", "head"))
    prompt = source.firings["prompt"].to_numpy()
    groups: set[tuple[int, int, int, int]] = set()
    for side in _sides(config):
        role = source.roles.of(prompt, source.firings[SIDES[side]].to_numpy())
        groups |= set(zip(layer.tolist(), head.tolist(), [side] * len(role), role.tolist(), strict=True))
    totals = _totals(source, order)
    rows = [
        (writer, *group, totals.get((writer, *group), 0.0), (writer, *group) in totals)
        for group in sorted(groups)
        for writer in _allowed(config, order, group[0])
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    kinds = (*[np.int64] * 5, np.float64, bool)
    return Candidates(*(np.asarray(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def reading(source: Given, batch: Batch, shape: tuple[int, int, int]) -> Reading:
    """A batch with the trace's marks.

    Args:
        shape: layers, heads and d_head of the model.
    """
    n_layers, n_heads, d_head = shape
    size, n_tokens = batch.tokens.shape
    role = np.zeros((size, n_tokens), np.int32)
    codes = source.roles.codes[batch.place[: len(batch.prompts)], :n_tokens]
    role[: len(codes), : codes.shape[1]] = codes
    marks = np.zeros((n_layers - 1, len(SIDES), size, n_tokens, n_heads, d_head), bool)
    at, firing, vector = _members(source, batch)
    for side, name in enumerate(SIDES):
        token = source.firings[name].to_numpy()[firing]
        layer, head = (source.firings[each].to_numpy()[firing] for each in ("layer", "head"))
        marks[layer - 1, side, at, token, head, vector] = True
    names = ("tokens", "length", "last", "answer", "distractor")
    return Reading(
        **{name: jnp.asarray(getattr(batch, name)) for name in names}, role=jnp.asarray(role), marks=jnp.asarray(marks)
    )


def _members(source: Given, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every member of every slice in a batch: the prompt's row in it, the firing's row in the table, k."""
    row = source.roles.row(source.firings["prompt"].to_numpy())
    at = np.full(len(source.prompts), -1)
    at[batch.place[: len(batch.prompts)]] = np.arange(len(batch.prompts))
    slices = source.firings["slice"].combine_chunks()
    firing = np.repeat(np.arange(len(slices)), slices.value_lengths().to_numpy())
    vector = slices.flatten().to_numpy()
    here = at[row[firing]]
    inside = here >= 0
    return here[inside], firing[inside], vector[inside]


def _sides(config: TraceConfig) -> list[int]:
    return [0, 1] if config.sides == "both" else [SIDES.index(config.sides)]


def _allowed(config: TraceConfig, order: WriterOrder, layer: int) -> np.ndarray:
    """The writers that the trace allowed for readers of a layer, const aside."""
    if all_writers(config):
        return order.codes_below(layer)[:-1]
    return order.codes_below(layer)[: layer * order.n_heads]


def _totals(source: Given, order: WriterOrder) -> dict[tuple[int, int, int, int, int], float]:
    """The total weight of every edge of the graph, const's left out."""
    code = {label: place for place, label in enumerate(order.labels)}
    edges = source.edges
    role = source.roles.of(edges["prompt"].to_numpy(), edges["token"].to_numpy())
    columns = (edges[name].to_pylist() for name in ("writer", "layer", "head", "side", "weight"))
    totals: dict[tuple[int, int, int, int, int], float] = {}
    for writer, layer, head, side, weight, its_role in zip(*columns, role.tolist(), strict=True):
        if writer != "const":
            key = (code[writer], layer, head, SIDES.index(side), its_role)
            totals[key] = totals.get(key, 0.0) + weight
    return totals

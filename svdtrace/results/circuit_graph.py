"""The circuit as a graph over heads and token roles (METHOD.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from svdtrace.prompts.edge_names import OUTPUT, writer_layer
from svdtrace.results.columns import RoleCodes
from svdtrace.results.grouping import Groups, Keys, Names, distinct_prompts, distinct_rows, grown, integers
from svdtrace.results.in_parts import Tables
from svdtrace.results.shown_graph import CircuitGraph

OTHER = "other"
"""The label of a token without a role."""
SIDES = ("dest", "src", OUTPUT)
MEANS = ("weight", "share", "stability")
"""What is averaged over the occurrences of an edge, where the tables have it and it is defined."""
THROUGH = "through"
"""The column of positions that edges' writers attended to, under the method `relative`."""
ROWS = 2**20
"""About how many edges are counted at once, so that a trace in one piece takes no more memory than one in parts."""


# Bits of an edge's key: reader, side; what is left, 29, is the writer's.
_NODE, _SIDE = 32, 2


def token_labels(prompts: pa.Table) -> dict[int, dict[int, str]]:
    """For each prompt the role of each position; of several roles at one position the last listed wins."""
    return {
        prompt: {position: role for role, position in roles}
        for prompt, roles in zip(prompts["prompt"].to_pylist(), prompts["roles"].to_pylist(), strict=True)
    }


def ours(parts: Iterable[Tables]) -> nx.MultiDiGraph:
    """The graph that can be walked from what writes to what is written last.

    Nodes: a head where it writes, `4.11@IO`, which is at a reader's destination and at an edge's token; other writers
    likewise (`mlp.3@IO`); with roots from the output also `output`. A token without a role is labelled `other`.
    An edge's key is its side, `dest`, `src` or `output`. Its attributes: `side`, `prompts` (distinct ones), `weight`
    (mean over its occurrences), `total`, `share` (mean), where the edges have a stability its mean, and `reads`, the
    roles of the tokens that the reader attends to, most frequent first, ties by name, joined by commas; under
    `relative` likewise `through`, the roles of what the writer attended to and passed on. An edge into `output` weighs
    its direct effect, in logits. Layers rise along every edge, so that there is no cycle.

    Nodes are listed role by role in reading order, then by layer; edges by their nodes, then by side.

    Args:
        parts: the tables of a trace, or of a sweep part by part.
    """
    return _counted(parts, by_role=True)


def heads(parts: Iterable[Tables]) -> nx.MultiDiGraph:
    """The graph of writers and readers whatever the token, `4.11` → `8.6`; else as `ours`, without `reads`.

    Args:
        parts: see `ours`.
    """
    return _counted(parts, by_role=False)


def _counted(parts: Iterable[Tables], by_role: bool) -> nx.MultiDiGraph:
    counts = _Counts(by_role)
    for part in parts:
        counts.add(part)
    return counts.graph()


@dataclass(frozen=True)
class _Rows:
    """Edges of the graph, one entry an occurrence: numbers of names, roles and sides; `reads` the role of j, `through`
    the roles of what writers attended to, each with its row.
    """

    prompt: Int[np.ndarray, " row"]
    writer: Int[np.ndarray, " row"]
    written_at: Int[np.ndarray, " row"]
    reader: Int[np.ndarray, " row"]
    read_at: Int[np.ndarray, " row"]
    side: Int[np.ndarray, " row"]
    values: dict[str, Float[np.ndarray, " row"]]
    reads: Int[np.ndarray, " row"] | None = None
    through: tuple[Int[np.ndarray, " attended"], Int[np.ndarray, " attended"]] | None = None


@dataclass
class _Labels:
    """The roles of tokens as numbers over all parts, 0 for none, and where in their prompts they stand."""

    names: Names = field(default_factory=Names)
    position: Int[np.ndarray, " role"] = field(default_factory=lambda: np.zeros(1, int))
    count: Int[np.ndarray, " role"] = field(default_factory=lambda: np.zeros(1, int))

    def __post_init__(self) -> None:
        self.names.number(OTHER)

    def of(self, roles: RoleCodes) -> Int[np.ndarray, "prompt tok"]:
        """The numbers of a part's tokens."""
        number = np.asarray([*map(self.names.number, roles.names), 0], int)[roles.codes]
        many = len(self.names.all())
        self.position, self.count = grown(self.position, many), grown(self.count, many)
        _, token = there = np.nonzero(roles.codes >= 0)
        np.add.at(self.position, number[there], token)
        np.add.at(self.count, number[there], 1)
        return number

    def in_reading_order(self) -> list[int]:
        """The roles' numbers by the mean position of their tokens; `other` first."""
        # Two roles may share a position, on average too.
        mean, names = self.position[1:] / np.maximum(self.count[1:], 1), self.names.all()
        return [0, *sorted(range(1, len(names)), key=lambda role: (mean[role - 1], names[role]))]


class _RolesOf:
    """How often each role comes with each group of edges."""

    def __init__(self) -> None:
        self._keys, self._count = Keys(), np.zeros(0, int)

    def add(self, group: Int[np.ndarray, " row"], role: Int[np.ndarray, " row"]) -> None:
        """Count some more."""
        first, found = distinct_rows([group, role])
        found = self._keys.of((group[first] << _NODE) + role[first])[found]
        many = len(self._keys)
        self._count = grown(self._count, many) + np.bincount(found, minlength=many)

    def most_frequent(self, names: Sequence[str]) -> dict[int, str]:
        """Each group's roles, most frequent first, ties by name, joined by commas."""
        found: dict[int, list[tuple[int, str]]] = {}
        for key, count in zip(self._keys.all().tolist(), self._count.tolist(), strict=True):
            group, role = divmod(key, 1 << _NODE)
            found.setdefault(group, []).append((-count, str(names[role])))
        return {group: ",".join(name for _, name in sorted(each)) for group, each in found.items()}


def _listed(lists: pa.ChunkedArray) -> tuple[Int[np.ndarray, " value"], Int[np.ndarray, " value"]]:
    """Rows and values of lists of whole numbers."""
    whole = lists.combine_chunks()
    # Nothing where the list is null.
    size = np.nan_to_num(whole.value_lengths().to_numpy(zero_copy_only=False)).astype(int)
    return np.repeat(np.arange(len(size)), size), np.asarray(whole.flatten().to_numpy(), int)


class _Counts:
    """Occurrences counted together by writer, reader, their tokens' roles and the side."""

    def __init__(self, by_role: bool) -> None:
        self._by_role = by_role
        self._names, self._labels = Names(), _Labels()
        self._nodes, self._groups = Groups(), Keys()
        self._prompts = np.zeros(0, int)
        self._roles = {name: _RolesOf() for name in ("reads", "through")}
        self._sums = {name: np.zeros(0) for name in MEANS}
        self._counts = {name: np.zeros(0, int) for name in MEANS}

    def add(self, part: Tables) -> None:
        """Count some more prompts."""
        roles = [dict(each) for each in part.prompts["roles"].to_pylist()]
        labels = self._labels.of(RoleCodes.of(roles))
        for piece in _pieces(part.edges):
            self._add(self._edges(piece, integers(part.prompts["prompt"]), labels))
        if "root_effects" in part.prompts.column_names:
            self._add(self._effects(part.prompts, roles, labels))

    def _edges(
        self, edges: pa.Table, prompts: Int[np.ndarray, " prompt"], labels: Int[np.ndarray, "prompt tok"]
    ) -> _Rows:
        """The rows of `edges.parquet`."""
        order = np.argsort(prompts, kind="stable")
        prompt = order[np.searchsorted(prompts, integers(edges["prompt"]), sorter=order)]
        last = labels.shape[1] - 1
        dest, src, token = (
            labels[prompt, np.minimum(integers(edges[name]), last)] for name in ("dest", "src", "token")
        )
        through = None
        if self._by_role and THROUGH in edges.column_names:
            row, attended = _listed(edges[THROUGH])
            through = row, labels[prompt[row], np.minimum(attended, last)]
        side = Names(SIDES).of(edges["side"])
        layer, head = integers(edges["layer"]), integers(edges["head"])
        first, reader = distinct_rows([layer, head])
        names = [f"{layer[row]}.{head[row]}" for row in first]
        return _Rows(
            prompt=prompt,
            writer=self._names.of(edges["writer"]),
            written_at=token,
            reader=np.asarray([*map(self._names.number, names)], int)[reader],
            read_at=dest,
            side=side,
            values={name: np.asarray(edges[name].to_numpy(), float) for name in MEANS if name in edges.column_names},
            reads=src if self._by_role else None,
            through=through,
        )

    def _effects(self, prompts: pa.Table, roles: list[dict[str, int]], labels: Int[np.ndarray, "prompt tok"]) -> _Rows:
        """The root heads of prompts traced from the output: they write at the last traced token."""
        found = [
            (place, head, effect)
            for place, effects in enumerate(prompts["root_effects"].to_pylist())
            for head, effect in effects or ()
        ]
        prompt = np.asarray([place for place, *_ in found], int)
        tokens = prompts["tokens"]
        last = np.asarray([roles[place].get("end", len(tokens[place]) - 1) for place in prompt.tolist()], int)
        none = np.zeros(len(found), int)
        return _Rows(
            prompt=prompt,
            writer=np.asarray([self._names.number(head) for _, head, _ in found], int),
            written_at=labels[prompt, np.minimum(last, labels.shape[1] - 1)],
            reader=none + self._names.number(OUTPUT) if found else none,
            read_at=none,
            side=none + SIDES.index(OUTPUT),
            values={"weight": np.asarray([effect for *_, effect in found], float)},
        )

    def _add(self, rows: _Rows) -> None:
        at = (rows.written_at, rows.read_at) if self._by_role else (0 * rows.written_at, 0 * rows.read_at)
        writer, reader = self._nodes.of([rows.writer, at[0]]), self._nodes.of([rows.reader, at[1]])
        first, group = distinct_rows([writer, reader, rows.side])
        keys = ((writer[first] << _NODE) + reader[first] << _SIDE) + rows.side[first]
        group = self._groups.of(keys)[group]
        many = len(self._groups)
        self._prompts = grown(self._prompts, many) + distinct_prompts(group, rows.prompt, many)
        for name in MEANS:
            self._sums[name] = grown(self._sums[name], many)
            self._counts[name] = grown(self._counts[name], many)
            if name in rows.values:
                value = rows.values[name]
                defined = ~np.isnan(value)
                np.add.at(self._sums[name], group[defined], value[defined])
                np.add.at(self._counts[name], group[defined], 1)
        if rows.reads is not None:
            self._roles["reads"].add(group, rows.reads)
        if rows.through is not None:
            row, role = rows.through
            self._roles["through"].add(group[row], role)

    def graph(self) -> nx.MultiDiGraph:
        """What was counted."""
        graph, labels = CircuitGraph(), self._labels.names.all()
        roles = {name: each.most_frequent(labels) for name, each in self._roles.items()}
        nodes = list(zip(*(column.tolist() for column in self._nodes.columns(2)), strict=True))
        order = self._ordered(nodes)
        for number in order:
            name, attributes = self._node(*nodes[number])
            graph.add_node(name, **attributes)
        names, place = list(graph), np.argsort(order)
        keys = self._groups.all()
        writer, reader = place[keys >> _NODE + _SIDE], place[(keys >> _SIDE) % (1 << _NODE)]
        side = keys % (1 << _SIDE)
        for group in np.lexsort([side, reader, writer]).tolist():
            each = SIDES[side[group]]
            said = {name: of[group] for name, of in roles.items() if group in of}
            found = {"side": each, **self._means(group), **said}
            graph.add_edge(names[writer[group]], names[reader[group]], key=each, **found)
        return graph

    def _means(self, group: int) -> dict[str, float | int]:
        """The attributes of an edge that are numbers."""
        means = {name: float(self._sums[name][group] / count) for name in MEANS if (count := self._counts[name][group])}
        total = float(self._sums["weight"][group])
        return {"prompts": int(self._prompts[group]), "weight": means.pop("weight"), "total": total, **means}

    def _ordered(self, nodes: Sequence[tuple[int, int]]) -> list[int]:
        """Nodes role by role in reading order, then by layer, heads first; the output last."""
        names, order = self._names.all(), self._labels.in_reading_order()
        column = {role: place for place, role in enumerate(order)}

        def key(number: int) -> tuple[bool, int, int, bool, str, int]:
            name, role = names[nodes[number][0]], column[nodes[number][1]]
            kind, _, head = name.partition(".")
            return name == OUTPUT, role, writer_layer(name), not kind.isdigit(), kind, int(head) if head else 0

        return sorted(range(len(nodes)), key=key)

    def _node(self, number: int, role: int) -> tuple[str, dict[str, str | int]]:
        """A node's name and attributes."""
        name = self._names.all()[number]
        if name == OUTPUT:
            return name, {}
        layer, _, head = name.partition(".")
        is_head = layer.isdigit()
        attributes: dict[str, str | int] = {"layer": int(layer), "head": int(head)} if is_head else {"writer": name}
        if not self._by_role:
            return name, attributes
        label = self._labels.names.all()[role]
        return f"{name}@{label}", {**attributes, "role": label}


def _pieces(edges: pa.Table) -> Iterator[pa.Table]:
    """A table of edges in pieces of whole prompts."""
    start, rows = 0, edges.num_rows
    prompt = edges["prompt"]
    while start < rows:
        stop = min(start + ROWS, rows)
        while stop < rows and prompt[stop].as_py() == prompt[stop - 1].as_py():
            stop += 1
        yield edges.slice(start, stop - start)
        start = stop

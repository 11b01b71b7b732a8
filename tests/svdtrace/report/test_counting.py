"""What the page counts together equals slow loops over the tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from made_up_trace import InParts, MadeUpTrace, made_up_trace, repeated

from svdtrace.pictures import connections as counting
from svdtrace.pictures.token_roles import role_codes, role_names, token_roles
from svdtrace.report import vectors
from svdtrace.report.heads import HeadCount
from svdtrace.report.medians import ROUNDS, Medians
from svdtrace.report.numbers import last_place, rounded, rounded_at
from svdtrace.results import circuit_graph

EPS = float(np.finfo(np.float64).eps)


@cache
def trace() -> MadeUpTrace:
    return made_up_trace(seed=3)


def connections_of(of: MadeUpTrace) -> counting.Connections:
    counted = counting.ConnectionCount()
    counted.add(of, role_names([of]))
    return counted.connections()


def labels(of: MadeUpTrace) -> dict[tuple[int, int], str]:
    """The role of every token that has one; the last listed wins."""
    return {
        (prompt["prompt"], position): role for prompt in of.prompts.to_pylist() for role, position in prompt["roles"]
    }


def test_roles_are_those_of_the_tables_in_reading_order():
    roles = token_roles(trace().prompts)
    assert roles.names[0] == "other"
    assert roles.names[-1] == "end"
    expected = labels(trace())
    for prompt in trace().prompts.to_pylist():
        for position in range(len(prompt["tokens"])):
            code = roles.of(np.asarray([prompt["prompt"]]), np.asarray([position]))[0]
            assert roles.names[code] == expected.get((prompt["prompt"], position), "other")


def test_connections_are_the_edges_with_the_same_writer_reader_role_and_side():
    roles, edges = token_roles(trace().prompts), trace().edges.to_pylist()
    linked = connections_of(trace())
    of_row = linked.of(trace().edges, roles.names)
    role = labels(trace())
    expected = defaultdict(list)
    for row, edge in enumerate(edges):
        at = role.get((edge["prompt"], edge["token"]), "other")
        expected[edge["writer"], edge["layer"], edge["head"], at, edge["side"]].append(row)
    assert len(linked) == len(expected)
    assert np.all(np.diff(linked.total) <= 0)
    for place in range(len(linked)):
        names = roles.names[linked.role[place]], counting.SIDES[linked.side[place]]
        rows = expected[linked.writer[place], linked.layer[place], linked.head[place], *names]
        assert np.array_equal(np.nonzero(of_row == place)[0], rows)
        weight = [edges[row]["weight"] for row in rows]
        bound = EPS * len(rows) * sum(map(abs, weight))
        assert linked.count[place] == len(rows)
        assert linked.prompts[place] == len({edges[row]["prompt"] for row in rows})
        assert linked.total[place] == pytest.approx(sum(weight), abs=bound)
        assert linked.weight[place] == pytest.approx(sum(weight) / len(rows), abs=bound)
        assert linked.near_tie[place] == sum(edges[row]["near_tie"] for row in rows)
        assert linked.nonpositive[place] == sum(edges[row]["nonpositive_total"] for row in rows)


def test_connections_are_the_graphs_edges_summed_over_where_readers_fire():
    roles = token_roles(trace().prompts)
    linked = connections_of(trace())
    total: Counter[tuple[str, str, str]] = Counter()
    for writer, reader, side, each in circuit_graph.ours([trace()]).edges(keys=True, data=True):
        total[writer, reader.partition("@")[0], side] += each["total"]
    found = {}
    for place in range(len(linked)):
        writer = f"{linked.writer[place]}@{roles.names[linked.role[place]]}"
        side = ("dest", "src")[linked.side[place]]
        found[writer, f"{linked.layer[place]}.{linked.head[place]}", side] = linked.total[place]
    assert found.keys() == total.keys()
    size = float(np.abs(trace().edges["weight"].to_numpy()).sum())
    for ends, sum_of_weights in total.items():
        assert found[ends] == pytest.approx(sum_of_weights, abs=EPS * trace().edges.num_rows * size)


def test_medians_are_those_of_the_defined_values():
    rng = np.random.default_rng(0)
    shares = [
        rng.normal(size=7),
        # An even number; both signs, sizes far apart, the same value several times.
        np.asarray([-1e30, -2.5, -1e-30, 0.0, 0.0, 3e-41, 1.0, 1.0, 1.0, 7e20]),
        rng.integers(-3, 3, 40) / 8,
        np.asarray([np.nan, 0.3, np.nan]),
        np.asarray([np.nan]),
        np.zeros(0),
    ]
    group = np.repeat(np.arange(len(shares)), [len(each) for each in shares])
    value = np.concatenate(shares).astype(np.float32)
    order = rng.permutation(len(value))
    medians = Medians(len(shares))
    for _ in range(ROUNDS):
        for rows in np.array_split(order, 5):
            medians.add(group[rows], value[rows])
        medians.settle()
    found = medians.medians()
    for place, each in enumerate(shares[:4]):
        # Half the sum of two float32 is a float64, exactly.
        assert found[place] == np.nanmedian(each.astype(np.float32).astype(float))
    assert np.isnan(found[4:]).all()


def test_moves_are_the_firings_of_a_head_between_two_roles():
    roles, role = token_roles(trace().prompts), labels(trace())
    expected = defaultdict(list)
    for firing in trace().firings.to_pylist():
        ends = [role.get((firing["prompt"], firing[end]), "other") for end in ("dest", "src")]
        expected[firing["layer"], firing["head"], *ends].append(firing)
    counted = counting.MoveCount()
    counted.add(trace(), roles.names)
    moved = counted.moves()
    assert len(moved.count) == len(expected)
    for place in range(len(moved.count)):
        names = roles.names[moved.dest[place]], roles.names[moved.src[place]]
        firings = expected[moved.layer[place], moved.head[place], *names]
        assert moved.count[place] == len(firings)
        assert moved.prompts[place] == len({firing["prompt"] for firing in firings})
        assert moved.pattern[place] == pytest.approx(np.mean([firing["pattern"] for firing in firings]))
        assert moved.size[place] == pytest.approx(np.mean([firing["size"] for firing in firings]))


def test_heads_count_their_firings_sizes_and_vectors():
    counting_heads = HeadCount(16)
    counting_heads.add(trace(), role_names([trace()]))
    counted = counting_heads.heads()
    by_head = defaultdict(list)
    for firing in trace().firings.to_pylist():
        by_head[firing["layer"], firing["head"]].append(firing)
    assert list(zip(counted.layer, counted.head, strict=True)) == sorted(by_head)
    for place, (_, firings) in enumerate(sorted(by_head.items())):
        sizes, vectors = (
            Counter(each["size"] for each in firings),
            Counter(k for each in firings for k in each["slice"]),
        )
        assert counted.firings[place] == len(firings)
        assert counted.prompts[place] == len({each["prompt"] for each in firings})
        assert counted.sizes[place].tolist() == [sizes[size] for size in range(17)]
        assert counted.vectors[place].tolist() == [vectors[k] for k in range(16)]


def test_every_edge_finds_its_firing(monkeypatch):
    row = vectors.firing_of_edges(trace().firings, trace().edges)
    firings = trace().firings.to_pylist()
    for edge, place in zip(trace().edges.to_pylist(), row, strict=True):
        assert all(edge[name] == firings[place][name] for name in ("prompt", "layer", "head", "dest", "src"))
    whole = vectors.vector_counts(trace().firings, row, row % 5, 5, 16)
    monkeypatch.setattr(vectors, "_ROWS_AT_ONCE", 7)
    assert np.array_equal(vectors.vector_counts(trace().firings, row, row % 5, 5, 16), whole)
    expected = Counter((place % 5, k) for place in row for k in firings[place]["slice"])
    assert {(group, k): int(whole[group, k]) for group, k in np.argwhere(whole)} == expected


def test_prompts_repeated_count_as_often():
    once, again = connections_of(trace()), connections_of(repeated(trace(), 3))
    assert np.array_equal(again.count, 3 * once.count)
    assert np.array_equal(again.prompts, 3 * once.prompts)
    assert again.writer == once.writer


def test_roles_of_parts_are_numbered_as_those_of_the_whole():
    parts = InParts(trace(), 5)
    names = role_names(parts.parts())
    whole = token_roles(trace().prompts)
    assert names == whole.names
    for part in parts.parts():
        prompt = part.edges["prompt"].to_numpy().astype(int)
        token = part.edges["token"].to_numpy().astype(int)
        assert np.array_equal(token_roles(part.prompts, names).of(prompt, token), whole.of(prompt, token))


def test_roles_of_columns_are_those_of_the_tokens():
    roles = token_roles(trace().prompts)
    for table, columns in (("edges", {"role": "token"}), ("firings", {"dest_role": "dest", "src_role": "src"})):
        rows = getattr(trace(), table)
        for name, token in columns.items():
            expected = roles.of(*(rows[each].to_numpy().astype(int) for each in ("prompt", token)))
            assert 0 < np.count_nonzero(expected == 0) < len(expected)
            for column in (rows[name], rows[name].dictionary_encode()):
                assert np.array_equal(role_codes(column, roles.names), expected)
    nobody = made_up_trace(roles=False).edges["role"]
    assert not role_codes(nobody, ("other",)).any()


def test_of_several_roles_at_a_position_the_last_one_is_read_there():
    nothing = made_up_trace(empty=True)
    row = {"prompt": 0, "tokens": [0] * 10, "roles": [("A", 8), ("B", 3), ("C", 3), ("D", 1)]}
    of_hand = replace(nothing, prompts=pa.Table.from_pylist([row], schema=nothing.prompts.schema))
    assert role_names([of_hand]) == ("other", "D", "C", "A")
    assert role_names([replace(nothing, prompts=of_hand.prompts.slice(1))]) == ("other",)


def test_many_numbers_are_rounded_as_one():
    values = np.random.default_rng(5).normal(size=200) * 10.0 ** np.arange(-8, 12).repeat(10)
    values[:3] = 0.0, 1.0, 0.99996
    for digits in (2, 4):
        found = rounded_at(values, last_place(np.abs(values), digits))
        assert list(map(repr, found)) == [repr(rounded(float(each), digits)) for each in values]


def test_reading_order_is_that_of_all_parts_together():
    # On average A stands at 11 / 3, B at 4, C at 2; in no part alone is it so.
    rows = [
        {"prompt": place, "tokens": [0] * 10, "roles": list(roles.items())}
        for place, roles in enumerate(({"A": 1, "B": 4}, {"A": 1, "C": 2, "other": 0}, {"A": 9}))
    ]
    nothing = made_up_trace(empty=True)
    of_hand = replace(nothing, prompts=pa.Table.from_pylist(rows, schema=nothing.prompts.schema))
    for size in (1, 2, 3):
        assert role_names(InParts(of_hand, size).parts()) == ("other", "C", "A", "B")

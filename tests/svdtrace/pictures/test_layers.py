"""Places of the circuit's nodes: layers upwards, roles apart, nothing on top of another."""

from __future__ import annotations

from itertools import combinations

import pytest

from svdtrace.pictures.layers import NODE_HEIGHT, NODE_WIDTH, layered, row_of

LINKS = [
    *((f"0.{head}", "1.3", role) for head in range(12) for role in (0, 2)),
    ("1.3", "4.6", 2),
    ("mlp.1", "4.6", 2),
    ("attn_bias.0", "4.6", 2),
    ("embed", "1.3", 0),
    ("pos", "1.3", 0),
]


def test_readers_stand_above_their_writers_and_in_the_column_of_the_role():
    places = layered(LINKS)
    middle = {column.role: column for column in places.columns}
    for writer, reader, role in LINKS:
        below, above = places.nodes[writer, role], places.nodes[reader, role]
        assert below.y < above.y
        for node in (below, above):
            assert abs(node.x - middle[role].x) + NODE_WIDTH / 2 <= middle[role].width / 2


@pytest.mark.parametrize("links", [LINKS, LINKS[:1], [(f"0.{head}", f"1.{head}", 0) for head in range(25)]])
def test_no_node_lies_on_another(links):
    for one, other in combinations(layered(links).nodes.values(), 2):
        assert abs(one.x - other.x) >= NODE_WIDTH or abs(one.y - other.y) >= NODE_HEIGHT


def test_columns_follow_the_numbers_of_the_roles_without_overlap():
    places = layered(LINKS)
    assert [column.role for column in places.columns] == [0, 2]
    left, right = places.columns
    assert left.x + left.width / 2 < right.x - right.width / 2


def test_rows_name_every_layer_from_the_input_up():
    assert [label for label, _ in layered(LINKS).rows] == ["input", "0", "1", "2", "3", "4"]
    assert layered([]).rows == []


def test_heads_stand_in_their_layer_and_other_writers_above_or_below():
    assert row_of("7.11") == 7
    assert 7 < row_of("attn_bias.7") < row_of("mlp.7") < 8
    assert row_of("embed") == row_of("pos") == row_of("const") < row_of("0.0")

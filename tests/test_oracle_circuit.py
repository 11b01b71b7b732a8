"""The oracle's paths and graphs on firings made by hand: the orders and counts that METHOD.md, 7 and 8, define."""

from __future__ import annotations

from typing import Any

import oracle
import pytest


def firing(prompt: int, head: str, dest: int, src: int) -> dict[str, Any]:
    layer, number = map(int, head.split("."))
    return {"prompt": prompt, "layer": layer, "head": number, "dest": dest, "src": src}


def edge(reader: dict[str, Any], writer: str, side: str, weight: float) -> dict[str, Any]:
    layer, head = map(int, writer.split("."))
    own = {"writer": writer, "writer_layer": layer, "writer_head": head, "side": side, "token": reader[side]}
    return reader | own | {"weight": weight, "share": weight / 10}


HAND_PROMPTS = [{"tokens": [0] * 6, "roles": {"IO": 1, "end": 4}}] * 3


def hand_made(prompt: int, weight: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two roots that 8.6 feeds; 8.6 reads a token without a role, where 3.0 fires and reads IO."""
    first, second = firing(prompt, "9.6", 4, 1), firing(prompt, "9.9", 4, 1)
    middle, low = firing(prompt, "8.6", 4, 3), firing(prompt, "3.0", 3, 1)
    edges = [
        edge(first, "8.6", "dest", 3 * weight),
        edge(first, "5.0", "src", 2 * weight),
        edge(second, "8.6", "dest", 1 * weight),
        edge(middle, "3.0", "src", 5 * weight),
        edge(middle, "3.1", "dest", 0.25 * weight),
        edge(low, "1.0", "src", 0.5 * weight),
    ]
    return [first, second, middle, low], edges


def hand_made_trace(weights: list[float]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    parts = [hand_made(prompt, weight) for prompt, weight in enumerate(weights)]
    return [row for part in parts for row in part[0]], [row for part in parts for row in part[1]]


def test_paths_of_hand_made_firings() -> None:
    firings, edges = hand_made(0, 1.0)
    roots = oracle.named_roots(firings, HAND_PROMPTS, "9.9@end:IO,9.6@4:*")[0]
    assert [root[1:3] for root in roots] == [(9, 9), (9, 6)]
    assert list(oracle.paths_by_layer(firings, edges, roots).values()) == [1, 1, 2, 2]
    everything = oracle.named_roots(firings, HAND_PROMPTS, "all")[0]
    assert list(oracle.paths_by_layer(firings, edges, everything).values()) == [1, 1, 3, 4]


def test_paths_are_exact_beyond_64_bits() -> None:
    chain = [firing(0, f"{layer}.0", 1, 1) for layer in range(1, 72)]
    edges = [edge(row, f"{row['layer'] - 1}.0", side, 1.0) for row in chain for side in ("dest", "src")]
    counts = oracle.paths_by_layer(chain, edges, [oracle.key(chain[-1])])
    assert counts[oracle.key(chain[0])] == 2**70


def test_the_published_counting_drops_tokens_without_a_role_and_counts_meetings() -> None:
    firings, edges = hand_made_trace([1.0, 2.0, 4.0])
    roots = oracle.named_roots(firings, HAND_PROMPTS, "9.6@end:IO,9.9@end:IO")
    nodes, found = oracle.paper_graph(firings, edges, HAND_PROMPTS, roots)
    counts = {pair: (row["total"], row["count"], row["prompt"]) for pair, row in found.items()}
    assert counts == {
        ((5, 0), (9, 6, "IO")): (2 + 4 + 8, 3, 0),
        ((8, 6), (9, 6, "end")): (3 + 6 + 12, 3, 0),
        ((8, 6), (9, 9, "end")): (1 + 2 + 4, 3, 0),
        # 8.6's firing is met twice in each prompt: once counted in the first, twice in the others.
        ((3, 1), (8, 6, "end")): (0.25 + 2 * 0.5 + 2 * 1, 5, 0),
        ((1, 0), (3, 0, "IO")): (0.5 + 2 * 1 + 2 * 2, 5, 0),
        ((9, 6, "IO"), (9, 6)): (2000, 3, 0),
        ((9, 6, "end"), (9, 6)): (2000, 3, 0),
        ((9, 9, "end"), (9, 9)): (2000, 3, 0),
        ((8, 6, "end"), (8, 6)): (2000, 5, 0),
        ((3, 0, "IO"), (3, 0)): (2000, 5, 0),
    }
    assert found[(3, 1), (8, 6, "end")]["weight"] == 3.25 / 5
    assert found[(3, 1), (8, 6, "end")] | {"weight": 0} == found[(3, 1), (8, 6, "end")] | {
        "weight": 0,
        "type": "d",
        "src_token": 3,
        "dest_token": "end",
    }
    assert nodes[8, 6] == nodes[8, 6, "end"] == {"nfiring": 3}
    assert nodes[5, 0] == {"nfiring": 0}
    assert oracle.top_layers(nodes, found, nfiring=2, layer=7)[1].keys() == {
        ((8, 6), (9, 6, "end")),
        ((8, 6), (9, 9, "end")),
        ((9, 6, "IO"), (9, 6)),
        ((9, 6, "end"), (9, 6)),
        ((9, 9, "end"), (9, 9)),
        ((8, 6, "end"), (8, 6)),
    }


def test_the_published_counting_depends_on_the_order_of_meetings() -> None:
    rows, edges = [], []
    for prompt in (0, 1):
        early, late = firing(prompt, "7.0", 4, 1), firing(prompt, "7.0", 3, 1)
        first, second = firing(prompt, "9.6", 4, 3), firing(prompt, "9.9", 3, 1)
        rows += [early, late, first, second]
        edges += [edge(first, "7.0", "dest", 9.0), edge(second, "7.0", "dest", 8.0)]
        edges += [edge(early, "2.2", "src", 1.0), edge(late, "2.2", "src", 10.0)]
    for spec, total in (("9.6@*:*,9.9@*:*", 1 + 11), ("9.9@*:*,9.6@*:*", 10 + 11)):
        roots = oracle.named_roots(rows, HAND_PROMPTS, spec)
        _, found = oracle.paper_graph(rows, edges, HAND_PROMPTS, roots)
        assert (found[(2, 2), (7, 0, "IO")]["total"], found[(2, 2), (7, 0, "IO")]["count"]) == (total, 3)


def test_the_published_counting_meets_the_source_side_first_and_knows_no_sides() -> None:
    rows = [firing(prompt, "9.6", 1, 1) for prompt in (0, 1)]
    edges = [edge(row, "2.2", side, weight) for row in rows for side, weight in (("dest", 9.0), ("src", 7.0))]
    edges.append(edge(rows[1], "3.3", "dest", 1.0))
    _, found = oracle.paper_graph(rows, edges, HAND_PROMPTS, oracle.named_roots(rows, HAND_PROMPTS, "all"))
    assert found[(2, 2), (9, 6, "IO")]["type"] == "s"
    assert (found[(2, 2), (9, 6, "IO")]["total"], found[(2, 2), (9, 6, "IO")]["count"]) == (7 + 7 + 9, 3)
    assert (found[(3, 3), (9, 6, "IO")]["count"], found[(3, 3), (9, 6, "IO")]["prompt"]) == (1, 1)
    assert found[(9, 6, "IO"), (9, 6)]["count"] == 4


def test_our_graph_by_hand() -> None:
    _, edges = hand_made_trace([1.0, 2.0])
    edges.append(edges[1] | {"src": 2, "token": 2, "weight": 3.0})
    edges.append(edges[0] | {"writer": "mlp.3", "writer_layer": 3, "writer_head": None, "weight": 7.0, "share": None})
    found = oracle.graph(edges, HAND_PROMPTS, {2: {"9.6": 1.5, "9.9": 0.5}, 1: {"9.6": 2.5}})
    assert found["8.6@end", "9.6@end", "dest"] == {
        "side": "dest",
        "prompts": 2,
        "weight": 4.5,
        "total": 9.0,
        "share": pytest.approx(0.45),
        "reads": "IO",
    }
    assert found["3.0@other", "8.6@end", "src"]["total"] == 15
    # It reads IO and the token with a role of no name: two rows of IO, one at position 2.
    by_io, by_other = found["5.0@IO", "9.6@end", "src"], found["8.6@end", "9.6@end", "dest"]
    assert (by_io["prompts"], by_io["weight"], by_io["reads"]) == (2, 1.5 * 2, "IO")
    assert found["5.0@other", "9.6@end", "src"]["reads"] == "other"
    assert by_other["side"] == "dest"
    mlp = found["mlp.3@end", "9.6@end", "dest"]
    assert (mlp["prompts"], mlp["weight"], mlp["share"]) == (1, 7.0, None)
    output = found["9.6@end", "output", "output"]
    assert (output["prompts"], output["weight"], output["total"], output["reads"]) == (2, 2.0, 4.0, None)


def test_the_last_role_of_a_position_labels_it() -> None:
    assert oracle.labels({"IO": 2, "S1-1": 3, "IO+1": 3}) == {2: "IO", 3: "IO+1"}

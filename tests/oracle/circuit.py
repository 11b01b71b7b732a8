"""From firings and edges to a circuit: roots, paths, both graphs (METHOD.md, sections 7 and 8).

All of it works on lists of dicts with the columns of the tables, so that firings made by hand can be given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Key = tuple[int, int, int, int, int]
PATHS_LIMIT = 2**63 - 1


def key(row: Row) -> Key:
    """A firing's name, of its own row or of an edge into it: (prompt, layer, head, dest, src)."""
    return (row["prompt"], row["layer"], row["head"], row["dest"], row["src"])


def get(prompt: Any, name: str) -> Any:
    """A field of a prompt that is a dict or an object; None where it has none."""
    return prompt.get(name) if isinstance(prompt, Mapping) else getattr(prompt, name, None)


def roles_of(prompt: Any) -> dict[str, int]:
    """A prompt's roles, in their order; a prompt without any has an empty dict."""
    return dict(get(prompt, "roles") or {})


def last_traced(prompt: Any) -> int:
    """The last token that is traced: the role `end` where there is one, else the last token (section 3)."""
    return roles_of(prompt).get("end", len(get(prompt, "tokens")) - 1)


def _token_matches(text: str, token: int, roles: Mapping[str, int]) -> bool:
    if text == "*":
        return True
    if text in roles:
        return roles[text] == token
    return text.isdecimal() and int(text) == token


def matches(spec: str, row: Row, roles: Mapping[str, int]) -> bool:
    """Whether a firing is named by one root, `LAYER.HEAD@DEST:SRC`, of roles or positions; `*` is any.

    A role wins over a position of the same text. A role that the prompt lacks matches nothing.
    """
    head, place = spec.strip().split("@")
    dest, src = place.split(":")
    own = str(row["layer"]), str(row["head"])
    head_matches = all(wanted in ("*", here) for wanted, here in zip(head.split("."), own, strict=True))
    return head_matches and _token_matches(dest, row["dest"], roles) and _token_matches(src, row["src"], roles)


def named_roots(firings: Sequence[Row], prompts: Sequence[Any], roots: str) -> dict[int, list[Key]]:
    """Each prompt's roots, in the order of the specs and within one of layer, head, dest, src; none twice (section 7).

    `roots` is `all` or specs joined by commas. (`logit` needs activations: see `trace`.)
    """
    found: dict[int, list[Key]] = {}
    for row in sorted(firings, key=key):
        found.setdefault(row["prompt"], [])
    for spec in ["*.*@*:*"] if roots == "all" else roots.split(","):
        for row in sorted(firings, key=key):
            here = found[row["prompt"]]
            if matches(spec, row, roles_of(prompts[row["prompt"]])) and key(row) not in here:
                here.append(key(row))
    return found


def led_to(edge: Row, firings: Sequence[Row]) -> list[Key]:
    """The firings that an edge from a head leads to: its writer's, whose destination is its token, by source token."""
    if edge["writer_head"] is None:
        return []
    wanted = edge["prompt"], edge["writer_layer"], edge["writer_head"], edge["token"]
    return sorted(key(row) for row in firings if key(row)[:4] == wanted)


def edges_by_reader(edges: Sequence[Row]) -> dict[Key, list[Row]]:
    """Every firing's edges."""
    found: dict[Key, list[Row]] = {}
    for edge in edges:
        found.setdefault(key(edge), []).append(edge)
    return found


def paths_by_recursion(firings: Sequence[Row], edges: Sequence[Row], roots: Sequence[Key]) -> dict[Key, int]:
    """paths(f) as the number of times that a walk from every root meets f (section 7): exponential, for small cases."""
    counts = {key(row): 0 for row in firings}
    readers = edges_by_reader(edges)

    def visit(firing: Key) -> None:
        counts[firing] += 1
        for edge in readers.get(firing, []):
            for below in led_to(edge, firings):
                visit(below)

    for root in roots:
        visit(root)
    return counts


def paths_by_layer(firings: Sequence[Row], edges: Sequence[Row], roots: Sequence[Key]) -> dict[Key, int]:
    """paths(f) = [f is a root] + the sum over the edges that lead to it, layer by layer from the top (section 7)."""
    counts = {key(row): 0 for row in firings}
    for root in roots:
        counts[root] += 1
    readers = edges_by_reader(edges)
    for firing in sorted(counts, key=lambda name: -name[1]):
        for edge in readers.get(firing, []):
            for below in led_to(edge, firings):
                counts[below] += counts[firing]
    return counts


def labels(roles: Mapping[str, int]) -> dict[int, str]:
    """Each position's role; of several the last listed wins (section 8)."""
    return {position: role for role, position in roles.items()}


def writer_node(edge: Row) -> Any:
    """A head as (layer, head), another writer as its name."""
    return edge["writer"] if edge["writer_head"] is None else (edge["writer_layer"], edge["writer_head"])


def graph(
    edges: Sequence[Row], prompts: Sequence[Any], effects: Mapping[int, Mapping[str, float]] | None = None
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Our graph (section 8): edges (writer at its token, reader at its destination, side) with their attributes.

    `effects`: for roots from the output each prompt's root heads with their direct effects.

    Where section 8 leaves room: an occurrence is a row of the edges' table, however many paths lead to it; `total` is
    the sum of their weights, `weight` their mean, `share` the mean of the shares that are defined (None without any),
    `prompts` how many distinct prompts have the edge; `reads` counts rows. An edge into the output has neither a share
    nor `reads`.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for edge in edges:
        role_at = labels(roles_of(prompts[edge["prompt"]]))
        dest, src = (role_at.get(edge[end], "other") for end in ("dest", "src"))
        at = dest if edge["side"] == "dest" else src
        ends = f"{edge['writer']}@{at}", f"{edge['layer']}.{edge['head']}@{dest}", edge["side"]
        found.setdefault(ends, []).append({**edge, "read": src})
    for prompt, heads in (effects or {}).items():
        role = labels(roles_of(prompts[prompt])).get(last_traced(prompts[prompt]), "other")
        for head, effect in heads.items():
            row = {"prompt": prompt, "weight": effect, "share": None, "read": None}
            found.setdefault((f"{head}@{role}", "output", "output"), []).append(row)
    result = {}
    for ends, rows in found.items():
        shares = [row["share"] for row in rows if row["share"] is not None]
        total = sum(row["weight"] for row in rows)
        read = [row["read"] for row in rows if row["read"] is not None]
        result[ends] = {
            "side": ends[2],
            "prompts": len({row["prompt"] for row in rows}),
            "weight": total / len(rows),
            "total": total,
            "share": sum(shares) / len(shares) if shares else None,
            "reads": ",".join(sorted(set(read), key=lambda role: (-read.count(role), role))) if read else None,
        }
    return result


def _meet(found: dict[tuple, dict[str, Any]], edge: Row, role_at: Mapping[int, str]) -> None:
    """One meeting of an edge in the published counting (section 8)."""
    role = role_at.get(edge["token"])
    if role is None:
        return
    head = edge["layer"], edge["head"]
    pair = writer_node(edge), (*head, role)
    first = {
        "type": edge["side"][0],
        "src_token": role_at.get(edge["src"], edge["src"]),
        "dest_token": role_at.get(edge["dest"], edge["dest"]),
        "prompt": edge["prompt"],
    }
    if pair not in found:
        found[pair] = {"weight": edge["weight"], "total": edge["weight"], "count": 1, **first}
    elif found[pair]["prompt"] == edge["prompt"]:
        return
    else:
        here = found[pair]
        here["total"] += edge["weight"]
        here["count"] += 1
        here["weight"] = here["total"] / here["count"]
    tie = (*head, role), head
    if tie not in found:
        found[tie] = {"weight": 2000, "total": 2000, "count": 1, **first}
    else:
        found[tie]["count"] += 1


def paper_graph(
    firings: Sequence[Row], edges: Sequence[Row], prompts: Sequence[Any], roots: Mapping[int, Sequence[Key]]
) -> tuple[dict[tuple, dict[str, Any]], dict[tuple, dict[str, Any]]]:
    """The published graph (section 8, `--paper`), by literal depth-first visits: (nodes, edges) by name, as met.

    Where section 8 leaves room: edges of writers that are no heads are left out; an edge is known by its writer and
    (reader, role), not by its side; a token without a role stands in `src_token` or `dest_token` as its position; the
    count of a (reader, role)–head edge grows by one whenever an edge into (reader, role) is new or grows; several
    firings that one edge leads to are visited by ascending source; nodes are those at an edge's ends.

    Args:
        firings: every traced firing, reached or not (`nfiring` counts them).
        roots: each prompt's roots in their order, as `named_roots` gives them.
    """
    found: dict[tuple, dict[str, Any]] = {}
    readers = edges_by_reader([edge for edge in edges if edge["writer_head"] is not None])

    def visit(firing: Key, role_at: Mapping[int, str]) -> None:
        mine = readers.get(firing, [])
        mine = sorted(mine, key=lambda edge: (edge["side"] != "src", edge["writer_layer"], edge["writer_head"]))
        for edge in mine:
            _meet(found, edge, role_at)
        for edge in mine:
            for below in led_to(edge, firings):
                visit(below, role_at)

    for prompt in sorted(roots):
        for root in roots[prompt]:
            visit(root, labels(roles_of(prompts[prompt])))
    nodes = {
        node: {"nfiring": sum(1 for row in firings if (row["layer"], row["head"]) == node[:2])}
        for pair in found
        for node in pair
    }
    return nodes, found


def top_layers(
    nodes: Mapping[tuple, Row], edges: Mapping[tuple, Row], nfiring: int = 65, layer: int = 6
) -> tuple[dict[tuple, Row], dict[tuple, Row]]:
    """The published top-layers graph: the nodes with more firings and in a higher layer than these, and their edges."""
    kept = {name: row for name, row in nodes.items() if row["nfiring"] > nfiring and name[0] > layer}
    return kept, {pair: row for pair, row in edges.items() if pair[0] in kept and pair[1] in kept}

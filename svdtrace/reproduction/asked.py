"""Which numbers are asked for, and what was published of them.

Tolerances. Counts are published to be equal: what may differ are pairs of tokens near a threshold (`nearness`) and
firings near a tie, each of which is one of slack. Weights, the graph and effects may differ by the shares that are
stated with the data (`paper.json`, `tolerances`). Ours are two: the mean logit difference may differ by a thousandth,
cosines and norm ratios by 5 % of their distance from 1, at least 1e-4, which float32 can bear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svdtrace.reproduction.comparison import TOO_SMALL, Expected, Key
from svdtrace.reproduction.edge_sets import label

WEIGHT_SHARE, GRAPH_SHARE, LOGIT_SHARE = 0.02, 0.03, 1e-3
EFFECT, EFFECT_SHARE, LIKENESS = 0.02, 0.05, 1e-4
TOP_FIRINGS, TOP_LAYER = 66, 7
COMMON, OTHERS = "in common", "others"


@dataclass(frozen=True)
class Asked:
    """What is measured.

    `pairs`: firings by name whose prompts are counted; `vectors`: the one whose vectors are listed, if any, where they
    are in at least `at_least` slices, and those that were published; `edges`: (writer, reader at a role); `sets`: of
    edges, as they are described; `by_threshold`: heads whose firings are counted without a condition on the score.
    """

    pairs: tuple[str, ...]
    vectors: str | None
    at_least: int
    expected_vectors: tuple[int, ...]
    edges: tuple[tuple[str, str], ...]
    sets: tuple[str, ...]
    by_threshold: tuple[str, ...] = ()


def asked_by(numbers: Mapping[str, Any]) -> Asked:
    """What the published numbers ask for."""
    ((vectors, slices),) = numbers["slice_members"].items()
    at_least, used = _used(slices)
    return Asked(
        pairs=tuple(numbers["prompts_firing"]),
        vectors=vectors,
        at_least=at_least,
        expected_vectors=used,
        edges=tuple((each["writer"], each["reader"]) for each in numbers["graph"]["strongest_by_total"]),
        sets=tuple(dict.fromkeys(each["edges"] for each in numbers["interventions_multi_edge"])),
        by_threshold=tuple(numbers["firings_threshold_only"]["ioi"]),
    )


def published_values(numbers: Mapping[str, Any], n_prompts: int) -> dict[Key, Expected]:
    """All that was published, by topic and name.

    Args:
        numbers: of `paper.json`.
        n_prompts: how many prompts the effects are given for, one by one.
    """
    difference = numbers["mean_logit_difference"]
    found: dict[Key, Expected] = {
        ("prompts", "mean logit difference"): Expected(difference, LOGIT_SHARE * abs(difference)),
        ("prompts", "distinct tokens"): Expected(numbers["task_vocabulary"]),
    }
    for head, count in numbers["firings_traced"]["counts"].items():
        if not head.startswith("0."):
            found["firings", head] = Expected(count)
    for head, count in numbers["firings_threshold_only"]["ioi"].items():
        found["firings by the threshold alone", head] = Expected(count)
    for pair, count in numbers["prompts_firing"].items():
        found["prompts firing", pair] = Expected(count)
    for pair, each in numbers["slice_members"].items():
        found["slices", f"{pair} firings"] = Expected(each["firings"])
        found["slices", f"{pair} members"] = Expected(each["members"])
        found["slices", f"{pair} mean |S|"] = Expected(each["mean_size"])
        found["vectors", f"{pair} {COMMON}"] = Expected(len(_used(each)[1]))
        found["vectors", f"{pair} {OTHERS}"] = Expected(0)
    return found | _graph(numbers["graph"]) | _effects(numbers["interventions_multi_edge"], n_prompts)


def _used(slices: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """The entry `on_at_least_100_firings`: the number, and the vectors that are in so many slices."""
    ((name, vectors),) = ((name, each) for name, each in slices.items() if name.startswith("on_at_least_"))
    return int(name.split("_")[3]), tuple(vectors)


def _graph(graph: Mapping[str, Any]) -> dict[Key, Expected]:
    sizes = {name: value for name, value in graph.items() if isinstance(value, int)}
    sizes |= {f"top layers, {name}": value for name, value in graph["toplayers"].items()}
    found: dict[Key, Expected] = {
        ("graph", name.replace("_", " ")): Expected(value, GRAPH_SHARE * value) for name, value in sizes.items()
    }
    found["graph", "share of the published edges"] = Expected(1, GRAPH_SHARE)
    found["graph", "share of other edges"] = Expected(0, GRAPH_SHARE)
    for each in graph["strongest_by_total"]:
        name = f"{each['writer']} → {each['reader']}"
        found["strongest edges", f"{name} weight"] = Expected(each["weight"], WEIGHT_SHARE * each["weight"])
        found["strongest edges", f"{name} count"] = Expected(each["count"], WEIGHT_SHARE * each["count"])
    return found


def _effects(sets: Any, n_prompts: int) -> dict[Key, Expected]:
    found: dict[Key, Expected] = {}
    for each in sets:
        topic, name, change = f"{each['where']} effect", label(each["edges"]), each["mean_change_logit_difference"]
        found[topic, f"{name} prompts"] = Expected(each["prompts"])
        tolerance = max(EFFECT, EFFECT_SHARE * abs(change))
        note = TOO_SMALL if abs(change) <= tolerance else ""
        found[topic, f"{name} change"] = Expected(change, tolerance, note)
        for what in ("cosine", "norm_ratio"):
            value = each[what]
            # Both lie near 1 whatever is edited: what is compared is how far from it.
            tolerance = max(LIKENESS, EFFECT_SHARE * abs(1 - value))
            found[topic, f"{name} {what.replace('_', ' ')}"] = Expected(value, tolerance)
        found[topic, f"{name} prompts within tolerance"] = Expected(n_prompts)
    return found

"""Results of other commands, made up for tests of the page: the tables that it reads, and their manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_up_trace import INJECTIONS, MadeUpTrace

from svdtrace.output.writing import write_manifest
from svdtrace.report.answers import Result

SETS = ("1.2:2.5@S2:S1+1/src", "2.5:3.1@end:S2/src", "3.1:4.3@end:IO/dest", "3.6:4.3@end:IO/dest,2.5:3.6@end:S2/src")


def made_up_results(injected: bool = False, contrast: bool = True) -> tuple[Result, ...]:
    """One result of each command.

    Args:
        injected: put markup among names and tokens.
        contrast: whether the characterisation has a second data set.
    """
    rng = np.random.default_rng(0)
    extra = INJECTIONS if injected else ()
    tables = {
        "intervene": {"summary": _effects(rng, (*SETS, *extra))},
        "characterise": _characterisation(rng, ("prompts", "contrast")[: 1 + contrast], (" Mary", " gave", *extra)),
        "circuit": _faithfulness(rng, (*SETS[:3], *extra)),
    }
    return tuple(Result(name, name, _manifest(name), each) for name, each in tables.items())


def saved(result: Result, folder: Path) -> Path:
    """Write a result as its command does."""
    folder.mkdir(parents=True)
    for name, table in result.tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    write_manifest(folder, result.manifest)
    return folder


def with_evidence(trace: MadeUpTrace, seed: int = 0) -> MadeUpTrace:
    """The trace with stability, probabilities and what its manifest then says."""
    rng = np.random.default_rng(seed)
    edges, many = trace.edges, trace.edges.num_rows
    edges = edges.append_column("stability", pa.array(rng.uniform(size=many), pa.float32()))
    connection = [edges[name].to_pylist() for name in ("writer", "layer", "head", "side")]
    q = np.array([(hash_of(*each) % 100) / 100 for each in zip(*connection, strict=True)])
    for name in ("p_slices", "p_bases", "p_prompts", "q_value"):
        missing = (q > 0.5) & (name == "p_prompts")
        edges = edges.append_column(name, pa.array(q, pa.float64(), mask=missing))
    counts = {"surviving": 31, "explained": 60, "untested": 0}
    chance = {
        "nulls": 199,
        "fdr": 0.05,
        "candidates": 900,
        "edges": 91,
        "surviving": 25,
        "smallest_q": 0.0495,
        "prompts_without_partner": 2,
        "by_null": {"slices": counts, "bases": counts | {"surviving": 80, "explained": 11}, "prompts": counts},
        "bases": {
            "firings": 120,
            "mean_slice": 3.1,
            "random_mean_slice": 6.25,
            "random_lowest": 6.1,
            "random_highest": 6.4,
            "p": 0.005,
            "histogram": [0, 20, 40, 30, 20, 10, 0, 0, 0],
            "random_histogram": [0, 0, 100, 200, 300, 500, 700, 300, 100],
        },
    }
    stability = {"reruns": ["float64", "tau 0.98"], "edges_in": {"float64": 1.0, "tau 0.98": 0.83}}
    manifest = trace.manifest | {"chance": chance, "stability": stability | {"mean": 0.915, "in_all": 77}}
    return replace(trace, edges=edges, manifest=manifest)


def hash_of(writer: str, layer: int, head: int, side: str) -> int:
    """A number for each connection, the same on every run."""
    return sum(map(ord, writer)) * 31 + layer * 7 + head * 13 + (side == "src")


def _manifest(command: str) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "version": "0.1.0",
        "command": command,
        "config": {"method": "paper", "seed": 3},
        "model": {"fingerprint": "9f2c4e1a77b0d3c58a61"},
        "prompts": {"count": 12, "sha256": "5d41402abc4b2a76b9719d911017c592", "rejected": 0, "used": 12},
        "counts": {"edges": 40, "candidates": 300},
    }
    facts = {"prompts": 12, "firings": 150, "idle_pairs": 4000, "mean_size": 2.9, "idle_mean_size": 6.4}
    of_circuit = {
        "trace": {"writers": "heads"},
        "default_measure": "logit_difference",
        "divisor": {"mean": 4.6, "standard_error": 0.2, "in_standard_errors": 23.0, "why": None},
        "logit_difference": {name: {"mean": mean, "low": mean, "high": mean} for name, mean in _ENDS.items()},
        "areas": {kind: {name: _interval(0.6) for name in _AREAS} for kind in ("faithfulness", "completeness")},
        "rank_correlations": {"edges": 3, "traced_path_patching": 0.41, "attribution_path_patching": 0.93},
        "output_heads": {"rank_correlation": 0.8, "overlap": 1.0, "overlap_by_chance": 0.1},
    }
    of_circuit["log_probability"] = {
        "runs": {name: {"mean": mean - 5} for name, mean in _ENDS.items()},
        "divisor": of_circuit["divisor"],
        "areas": of_circuit["areas"],
        "rank_correlations": {"edges": 3, "traced_path_patching": -0.17, "attribution_path_patching": 0.5},
    }
    sets = {"data_sets": {"prompts": facts, "contrast": facts | {"mean_size": 3.4}}}
    return manifest | {"circuit": of_circuit, "characterise": sets}.get(command, {})


_ENDS = {"nothing": 0.2, "clean": 4.8}
_AREAS = ("traced", "attribution", "random", "traced_less_random", "traced_less_attribution")


def _interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def _effects(rng: np.random.Generator, sets: tuple[str, ...]) -> pa.Table:
    rows = []
    for place, edges in enumerate(sets):
        for where in ("global", "local"):
            for direction in ("ablate", "boost"):
                for control in ("none", "norm"):
                    size = (1 - 2 * (direction == "ablate")) * (3 - place) * (0.1 if control == "norm" else 1)
                    row: dict[str, Any] = {"edges": edges, "where": where, "direction": direction, "control": control}
                    row |= {"prompts": 12, "seeds": 4 * (control == "norm")}
                    for name in ("logit_difference", "score", "pattern", "kl"):
                        mean = float(size + 0.1 * rng.normal())
                        row |= {name: mean, f"{name}_low": mean - 0.3, f"{name}_high": mean + 0.2}
                    row |= {"norm_ratio": 0.97, "cosine": 0.99}
                    signal = control == "none"
                    row |= {"excess": abs(size) if signal else None, "exceeds": place < 3 if signal else None}
                    row |= {"q_value": 0.01 * (place + 1) if signal else None}
                    row |= {"excess_low": abs(size) - 0.2, "excess_high": abs(size) + 0.2} if signal else {}
                    rows.append(row)
    names = {name: None for row in rows for name in row}
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _characterisation(rng: np.random.Generator, sets: tuple[str, ...], strings: tuple[str, ...]) -> dict[str, pa.Table]:
    heads = [(name, layer, head) for name in sets for layer in range(3) for head in range(4)]
    sizes = [
        {"data_set": name, "layer": layer, "head": head, "fires": fires, "size": size}
        | {"count": int(100 * np.exp(-abs(size - (3 if fires else 7))))}
        for name, layer, head in heads
        for fires in (True, False)
        for size in range(1, 12)
    ]
    taus = [
        {"data_set": name, "layer": place, "head": place, "tau": tau, "firings": 90}
        | {"mean_size": 5 * tau**2, "kept_median": tau, "kept_of_sum": 1.05 * tau}
        for name in sets
        for place in (None, 1)
        for tau in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    tokens = [
        {"data_set": name, "layer": layer, "head": head, "side": side, "rank": rank, "token": rank, "string": string}
        | {"count": 9, "norm": 4.0 / rank, "named": rank == 1, "auc": 0.9}
        for name, layer, head in heads
        for side in ("dest", "src")
        for rank, string in enumerate(strings, 1)
    ]
    rows = [
        {"data_set": name, "layer": layer, "head": head, "firings": 10 * head + layer, "idle_pairs": 300}
        | {"mean_size": 2.0 + head, "idle_mean_size": 6.5, "used": [0, head + 1], "auc_dest": None, "auc_src": 0.91}
        for name, layer, head in heads
    ]
    named = {"heads": rows, "sizes": sizes, "tau": taus, "tokens": tokens}
    tables = {name: pa.Table.from_pylist(each) for name, each in named.items()}
    for name in ("layer", "head"):
        place = tables["tau"].column_names.index(name)
        tables["tau"] = tables["tau"].set_column(place, name, tables["tau"][name].cast(pa.int32()))
    return tables


def _faithfulness(rng: np.random.Generator, edges: tuple[str, ...]) -> dict[str, pa.Table]:
    rows = []
    for kind in ("faithfulness", "completeness"):
        for order, seed in (("traced", None), ("attribution", None), ("random", 0), ("random", 1)):
            for many in (0, 1, 3, 10, 30, 100, 300):
                reach = (many / 300) ** {"traced": 0.25, "attribution": 0.2, "random": 1.5}[order]
                value = reach if kind == "faithfulness" else 1 - reach
                row = {"order": order, "seed": seed, "edges": many, "kind": kind, "value": value, "why": None}
                rows.append(row | {"logit_difference": 4 * value, "low": 4 * value - 0.2, "high": 4 * value + 0.2})
    agreement = {
        "edge": edges,
        "traced": np.linspace(3, 0.1, len(edges)),
        "attribution": rng.normal(size=len(edges)),
        "path_patching": rng.normal(size=len(edges)),
    }
    heads = [
        {"layer": layer, "head": head, "direct": 0.1 * layer, "chosen": 0.5, "ablation": 0.2 * head - 0.3}
        | {"ablation_log_probability": 0.1 * layer}
        for layer in range(5)
        for head in range(4)
    ]
    tables = {"faithfulness": pa.Table.from_pylist(rows), "output_heads": pa.Table.from_pylist(heads)}
    tables["agreement"] = pa.table({name: list(each) for name, each in agreement.items()})
    return tables | {f"{name}_log_probability": tables[name] for name in ("faithfulness", "agreement")}

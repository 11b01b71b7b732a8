"""Rows of interventions held to brute-force loops in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import oracle
import oracle.interventions as loops
import pytest

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.interventions.intervening import Interventions
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.interventions.signals import drawn
from svdtrace.prompts import Prompt
from svdtrace.prompts.edge_names import parse_edge

SETS = [
    "0.1:2.1@3:1/dest",
    "1.1:2.1@4:1/src",
    "mlp.0:2.1@4:1/dest",
    "embed:1.1@5:1/src",
    "pos:2.0@A:1/dest",
    "0.2:1.0@C:B/dest",
    "embed:0.1@4:2/dest",
    "0.1:2.1@3:1/dest,0.2:2.1@3:1/dest,0.2:2.1@3:1/src",
    "0.1:2.1@3:1/dest,0.1:2.0@3:1/dest,0.1:1.1@3:1/dest",
    "0.0:2.1@A:1/dest,0.0:2.1@B:1/dest,0.0:2.1@3:1/dest",
    "0.0:2.1@1:1/dest,0.0:2.1@1:1/src,0.0:1.1@1:1/src",
    "0.1:1.1@3:1/dest,1.1:2.1@3:1/dest,mlp.1:2.1@4:1/dest,embed:1.0@4:1/dest",
]
TRACING = TraceConfig(threshold=0.3, dtype="float64")
VALUES = (
    *(f"{name}_{when}" for name in ("logit_difference", "score", "pattern") for when in ("before", "after")),
    *("norm_ratio", "cosine"),
)
# Computed in float64, whose own rounding is far below that of the tables' float32: half an ulp, and once more of what
# it is compared with.
TOLERANCE = 2.0**-23


def edges_of(name: str) -> list[dict[str, Any]]:
    """A set's edges as the oracle has them."""
    fields = ("writer", "layer", "head", "dest", "src", "side")
    parsed = [parse_edge(each, CONFIG) for each in name.split(",")]
    return [{field: getattr(edge, field) for field in fields} for edge in parsed]


CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=3, d_model=24, d_mlp=32, n_ctx=16, d_vocab=30)


def drawn_for(model: oracle.Model, acts: Any, prompt: Any, place: int, name: str, seed: int) -> list[Any]:
    """The vectors of a control, edge by edge; the draw itself is tested by its laws."""
    edges = edges_of(name)
    found = loops.present(model, acts, prompt, edges, {"threshold": 0.3})
    draws: list[Any] = []
    for text, each in zip(name.split(","), found, strict=True):
        if each is None:
            draws.append(None)
            continue
        (layer, head, _, _), members = each
        inside = np.zeros((1, model.svd.S.shape[-1]), bool)
        inside[0, members] = True
        rank = np.arange(inside.shape[1]) < model.svd.rank[layer, head]
        chosen, _ = drawn(inside, rank, np.asarray([place]), text, seed)
        draws.append(np.nonzero(chosen[0])[0].tolist())
    return draws


def check(
    found: Interventions, model: oracle.Model, prompts: Sequence[Prompt], config: InterventionConfig, **options: Any
):
    """Hold every row to the oracle's."""
    rows = found.table.to_pylist()
    divergences = found.measures["kl"].to_pylist()
    acts = [oracle.forward(model.params, model.config, prompt.tokens) for prompt in prompts]
    n_edited = 0
    for row, kl in zip(rows, divergences, strict=True):
        prompt = prompts[row["prompt"]]
        draws = None
        if row["control"] != "none":
            draws = drawn_for(model, acts[row["prompt"]], prompt, row["prompt"], row["edges"], row["seed"])
        expected = loops.intervene(
            model,
            prompt,
            edges_of(row["edges"]),
            row["where"],
            row["direction"],
            config.method,
            control=row["control"],
            drawn=draws,
            settings={"threshold": 0.3},
            **options,
        )
        assert row["edited"] == expected["edited"], row
        n_edited += row["edited"]
        for name in VALUES:
            if expected[name] is None:
                assert row[name] is None, (name, row)
            else:
                assert row[name] == pytest.approx(expected[name], rel=TOLERANCE, abs=TOLERANCE), (name, row, expected)
        assert kl == pytest.approx(expected["kl"], rel=TOLERANCE, abs=TOLERANCE)
    return n_edited

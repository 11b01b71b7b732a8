"""Firings read from the top, those alone that roots reach: the same tables as of all of them."""

from __future__ import annotations

from typing import Any

import pytest
from equal_tables import compare
from small_model import jax_model, random_tokens, small_model

import svdtrace
from svdtrace.prompts import Prompt
from svdtrace.tracing import descending, pipeline

THRESHOLD = 0.3
CHOSEN: list[dict[str, Any]] = [
    {"method": "relative", "roots": "logit"},
    {"method": "exact", "roots": "3.1@*:*", "writers": "all"},
    {"method": "relative", "roots": "3.0@*:*,2.1@*:*", "keys": "all"},
    {"method": "relative", "roots": "probability", "select": "until"},
    {"method": "relative", "roots": "3.1@0:0", "skip_first": False},
]


@pytest.mark.full
@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda each: ",".join(map(str, each.values())))
def test_what_roots_reach_is_read_alone_and_alike(chosen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches firings that no root reaches read all the same, ways lost between layers, slices of other firings."""
    params, config = small_model(n_layers=4)
    model, settings = jax_model(params, config), svdtrace.TraceConfig(threshold=THRESHOLD, **chosen)
    rows = random_tokens(4, 8, config).tolist()
    prompts = [Prompt(None, tuple(row), tuple(map(str, row)), {}) for row in rows]
    read, inner = [], pipeline.read_rows

    def counted(*given: Any) -> Any:
        read.append(len(given[-1]))
        return inner(*given)

    monkeypatch.setattr(pipeline, "read_rows", counted)
    every = svdtrace.trace(model, prompts, settings)
    of_all = sum(read)
    read.clear()
    monkeypatch.setattr(descending, "AT_ONCE", 0)
    found = svdtrace.trace(model, prompts, settings)
    assert sum(read) == found.firings.num_rows < of_all
    same = compare(every, found, THRESHOLD)
    assert (same.pairs, same.firings, same.edges) == (0, 0, 0)
    for name in ("slice", "paths"):
        assert found.firings[name].to_pylist() == every.firings[name].to_pylist()
    for name in ("token", "writer", "paths", *(("through",) if chosen["method"] == "relative" else ())):
        assert found.edges[name].to_pylist() == every.edges[name].to_pylist()
    assert found.manifest["counts"] == every.manifest["counts"]

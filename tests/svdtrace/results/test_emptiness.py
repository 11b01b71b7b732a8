"""An empty trace says why, and advises only what can help."""

from __future__ import annotations

from typing import Any

import pytest

from svdtrace.results.emptiness import LAYER_0, why_empty


def manifest(firings: int = 0, per_head: int = 0, of_layer_0: int | None = 0, n_layers: int = 2, **config: Any) -> dict:
    counts: dict[str, Any] = {"firings": firings, "firings_per_head": {"1.0": per_head} if per_head else {}}
    if of_layer_0 is not None:
        counts[LAYER_0] = of_layer_0
    settings = {"threshold": 0.5, "score_min": 0.0, "skip_first": False, "roots": "all"} | config
    return {"counts": counts, "model": {"n_layers": n_layers}, "config": settings}


LOWER = "lower --threshold (now 0.5), or give longer prompts"
CASES = [
    (manifest(), f"No head fired; {LOWER}"),
    (manifest(of_layer_0=None), f"No head of layer 1 or above fired; {LOWER}"),
    (manifest(of_layer_0=3), "Only heads of layer 0 fired, 3 times; they are never traced"),
    (manifest(n_layers=1), "The model has one layer, and layer 0 is never traced, since no earlier head wrote"),
    (manifest(n_layers=1, of_layer_0=1), "what it reads; its heads fired once, which svdtrace characterise counts"),
    (manifest(per_head=5, roots="1.0@0:0"), "Of 5 firings in all none is a root or leads to one; roots are 1.0@0:0"),
    (manifest(score_min=2.0), "lower --threshold (now 0.5), lower --score-min (now 2), or give longer"),
    (manifest(skip_first=True), "--no-skip-first, or give longer prompts"),
]


@pytest.mark.parametrize(("given", "said"), CASES, ids=[said for _, said in CASES])
def test_why(given: dict, said: str):
    assert said in (why_empty(given) or "")


def test_no_threshold_helps_a_model_of_one_layer():
    for of_layer_0 in (0, 5):
        assert "--threshold" not in (why_empty(manifest(n_layers=1, of_layer_0=of_layer_0)) or "")


def test_what_has_firings_is_not_empty():
    assert why_empty(manifest(firings=1, per_head=1)) is None

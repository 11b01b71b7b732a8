"""What bfloat16 weights change: counted as sets count it, and the same as two traces made one by one say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from made_up_trace import MadeUpTrace, Size, made_up_trace
from small_model import jax_model, random_tokens, small_model

import svdtrace
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.rounding import changes, sentence

pytestmark = pytest.mark.whole

FIRING = ("prompt", "layer", "head", "dest", "src")
KEYS = {"firings": FIRING, "edges": (*FIRING, "writer", "side")}


def keys(trace: Any, name: str, prompts: int) -> set[tuple[Any, ...]]:
    rows = [
        tuple(row[each] for each in KEYS[name]) for row in getattr(trace, name).to_pylist() if row["prompt"] < prompts
    ]
    assert len(set(rows)) == len(rows)
    return set(rows)


def counted(rounded: Any, whole: Any, name: str, prompts: int) -> dict[str, int]:
    one, other = keys(rounded, name, prompts), keys(whole, name, prompts)
    return {"kept": len(one & other), "lost": len(other - one), "gained": len(one - other)}


def altered(table: pa.Table, column: str, value: Any, every: int) -> pa.Table:
    """Every so-manieth row with another value in a column, and the first row left out."""
    place = table.column_names.index(column)
    new = [value if row % every == 0 else old for row, old in enumerate(table[column].to_pylist())]
    return table.set_column(place, table.schema.field(place), pa.array(new, table.schema.field(place).type)).slice(1)


def made_up_pair() -> tuple[MadeUpTrace, MadeUpTrace]:
    """Six prompts, and the first four of them with other firings, and with edges of other writers and sides."""
    rounded = made_up_trace(Size(prompts=6))
    firings, edges = (table.filter(table["prompt"].to_numpy() < 4) for table in (rounded.firings, rounded.edges))
    # The other trace has no token 99, no writer "embed" and no side "neither".
    firings = altered(firings, "src", 99, 5)
    edges = altered(altered(edges, "writer", "embed", 97), "side", "neither", 89)
    return rounded, replace(rounded, prompts=rounded.prompts.slice(0, 4), firings=firings, edges=edges)


def test_changes_are_counted_as_sets_count_them():
    rounded, whole = made_up_pair()
    found = changes(rounded, whole)
    assert found["dtype"] == "bfloat16"
    assert found["prompts"] == 4
    for name in KEYS:
        assert found[name] == counted(rounded, whole, name, 4)
        assert min(found[name].values()) > 0
    one, other = keys(rounded, "firings", 4), keys(whole, "firings", 4)
    heads = sorted({firing[1:3] for firing in one ^ other})
    assert list(found["firings_per_head"]) == [f"{layer}.{head}" for layer, head in heads]
    for layer, head in heads:
        mine, theirs = ({firing for firing in each if firing[1:3] == (layer, head)} for each in (one, other))
        expected = {"kept": len(mine & theirs), "lost": len(theirs - mine), "gained": len(mine - theirs)}
        assert found["firings_per_head"][f"{layer}.{head}"] == expected


def test_the_same_trace_and_one_without_firings():
    whole, nothing = made_up_trace(), made_up_trace(empty=True)
    same = changes(whole, whole)
    assert same["firings"] == {"kept": whole.firings.num_rows, "lost": 0, "gained": 0}
    assert same["edges"] == {"kept": whole.edges.num_rows, "lost": 0, "gained": 0}
    assert same["firings_per_head"] == {}
    assert changes(nothing, whole)["firings"] == {"kept": 0, "lost": whole.firings.num_rows, "gained": 0}
    assert changes(whole, nothing)["edges"] == {"kept": 0, "lost": 0, "gained": whole.edges.num_rows}
    assert changes(nothing, nothing)["firings"] == {"kept": 0, "lost": 0, "gained": 0}


def test_the_sentence_says_of_how_many_and_on_which_prompts():
    rounding = {
        "dtype": "bfloat16",
        "prompts": 256,
        "firings": {"kept": 1201, "lost": 3, "gained": 5},
        "edges": {"kept": 3990, "lost": 10, "gained": 0},
    }
    said = "bfloat16 weights: 3 of 1,204 firings lost, 5 gained; 10 of 4,000 edges lost, 0 gained, on "
    assert sentence(rounding, 20000) == f"{said}the first 256 prompts"
    assert sentence(rounding, 256) == f"{said}all 256 prompts"
    assert sentence(rounding | {"prompts": 1}, 1) == f"{said}one prompt"


def small_prompts(config: dict[str, Any], many: int) -> list[Prompt]:
    return [
        Prompt(f"p{number}", tuple(map(int, tokens)), tuple(map(str, tokens)), {"end": 6})
        for number, tokens in enumerate(random_tokens(many, 7, config, seed=5))
    ]


@pytest.mark.parametrize("roots", ["all", "1.0@end:*"])
def test_a_trace_says_what_two_traces_say(roots: str, monkeypatch: pytest.MonkeyPatch):
    params, config = small_model(seed=3)
    model, prompts = jax_model(params, config), small_prompts(config, 80)
    settings = svdtrace.TraceConfig(threshold=0.3, roots=roots)
    monkeypatch.setattr("svdtrace.tracing.trace.PROMPTS", 64)
    told: list[tuple[int, int]] = []
    rounded = svdtrace.trace(
        model, prompts, replace(settings, dtype="bfloat16"), progress=lambda *each: told.append(each)
    )
    whole = svdtrace.trace(model, prompts, settings)
    found = rounded.manifest["rounding"]
    assert found["prompts"] == 64
    for name in KEYS:
        assert found[name] == counted(rounded, whole, name, 64)
    assert found["firings"]["kept"] > 0
    assert found["edges"]["lost"] + found["edges"]["gained"] > 0
    assert rounded.manifest["seconds"]["rounding"] > 0
    assert "rounding" not in whole.manifest
    assert told == sorted(told)
    assert told[-1] == (144, 144)


@pytest.mark.full
def test_weights_that_are_bfloat16_already_are_rounded_by_folding_alone():
    params, config = small_model(seed=3)
    already = {name: np.asarray(jnp.asarray(each, jnp.bfloat16), np.float32) for name, each in params.items()}
    model, prompts = jax_model(already, config), small_prompts(config, 80)
    settings = svdtrace.TraceConfig(threshold=0.3, dtype="bfloat16")
    found = {
        processing: svdtrace.trace(model, prompts, replace(settings, processing=processing)).manifest["rounding"]
        for processing in ("raw", "folded")
    }
    for name in KEYS:
        assert found["raw"][name]["kept"] > 0
        assert found["raw"][name]["lost"] == found["raw"][name]["gained"] == 0
    assert found["folded"]["edges"]["lost"] > 0

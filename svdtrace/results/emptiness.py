"""Why a trace has no row, and what could give it some: said at the end of commands and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYER_0 = "firings_of_layer_0"
"""In a manifest's counts: firings of layer 0, which no table has."""


def why_empty(manifest: Mapping[str, Any]) -> str | None:
    """A sentence on a trace or sweep without firings, with advice only where it can help; `None` where there are some.

    Args:
        manifest: of the trace or sweep.
    """
    counts, config = manifest.get("counts", {}), manifest.get("config", {})
    if counts.get("firings"):
        return None
    in_all, roots = sum(counts.get("firings_per_head", {}).values()), config.get("roots", "all")
    if in_all:
        return (
            f"Of {_firings(in_all)} in all none is a root or leads to one; roots are {roots}, --roots all takes every "
            "firing"
        )
    of_layer_0 = counts.get(LAYER_0)
    if n_layers(manifest) == 1:
        counted = f"; its heads fired {_times(of_layer_0)}, which svdtrace characterise counts" if of_layer_0 else ""
        return (
            f"The model has one layer, and layer 0 is never traced, since no earlier head wrote what it reads{counted}"
        )
    if of_layer_0:
        return (
            f"Only heads of layer 0 fired, {_times(of_layer_0)}; they are never traced, since no earlier head wrote "
            f"what they read. svdtrace characterise counts them; for firings above, {advice(config)}"
        )
    # A result of an earlier version does not say what layer 0 did.
    who = "No head" if of_layer_0 == 0 else "No head of layer 1 or above"
    return f"{who} fired; {advice(config)}"


def advice(config: Mapping[str, Any]) -> str:
    """What makes more heads fire, among settings that are not at their end yet."""
    threshold = config.get("threshold", 0.5)
    ways = [f"lower --threshold (now {threshold if isinstance(threshold, str) else f'{threshold:g}'})"]
    # Under relative a score alone says nothing, and is not asked about.
    if config.get("score_min", 0.0) and config.get("method") != "relative":
        ways.append(f"lower --score-min (now {config['score_min']:g})")
    if config.get("skip_first", True):
        ways.append("count attention to the first token too with --no-skip-first")
    return ", ".join(ways) + ", or give longer prompts"


def n_layers(manifest: Mapping[str, Any]) -> int | None:
    """The layers of the model that was traced."""
    model = manifest.get("model", {})
    return model.get("n_layers", model.get("shape", {}).get("n_layers"))


def _firings(number: int) -> str:
    return f"{number:,} firing{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"

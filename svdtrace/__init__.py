"""Which attention heads talk to which, and through what: sparse attention decomposition for GPT-2.

    model = gpt2jax.load("gpt2")
    trace = svdtrace.trace(model, svdtrace.prompts.ioi(64, model.tokenizer))
    trace.firings, trace.edges, trace.graph()

Loads lazily: a name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdtrace import prompts, testing
    from svdtrace.bundled.model import bundled_model
    from svdtrace.characterisation import Characterisation, characterise, head_usage, task_tokens
    from svdtrace.comparison import Comparison, compare
    from svdtrace.config import TraceConfig
    from svdtrace.faithfulness.result import Circuit, circuit
    from svdtrace.folders.reading import read
    from svdtrace.interventions.intervening import Interventions, intervene
    from svdtrace.interventions.settings import InterventionConfig
    from svdtrace.method.decomposition import Decomposition, decompose
    from svdtrace.method.relative import RelativeWeights, relative_weights
    from svdtrace.nulls.chance import Chance, chance
    from svdtrace.nulls.figure import random_bases
    from svdtrace.nulls.stability import stability
    from svdtrace.reproduction.protocol import Reproduction, reproduce
    from svdtrace.sweeping.running import Sweep, sweep
    from svdtrace.tracing.trace import Trace, trace

__all__ = [
    "Chance",
    "Characterisation",
    "Circuit",
    "Comparison",
    "Decomposition",
    "InterventionConfig",
    "Interventions",
    "RelativeWeights",
    "Reproduction",
    "Sweep",
    "Trace",
    "TraceConfig",
    "bundled_model",
    "chance",
    "characterise",
    "circuit",
    "compare",
    "decompose",
    "head_usage",
    "intervene",
    "prompts",
    "random_bases",
    "read",
    "relative_weights",
    "reproduce",
    "stability",
    "sweep",
    "task_tokens",
    "testing",
    "trace",
]

_HOMES = {
    "Characterisation": "svdtrace.characterisation",
    "Chance": "svdtrace.nulls.chance",
    "Circuit": "svdtrace.faithfulness.result",
    "Comparison": "svdtrace.comparison",
    "Decomposition": "svdtrace.method.decomposition",
    "InterventionConfig": "svdtrace.interventions.settings",
    "Interventions": "svdtrace.interventions.intervening",
    "RelativeWeights": "svdtrace.method.relative",
    "Reproduction": "svdtrace.reproduction.protocol",
    "Sweep": "svdtrace.sweeping.running",
    "Trace": "svdtrace.tracing.trace",
    "TraceConfig": "svdtrace.config",
    "bundled_model": "svdtrace.bundled.model",
    "chance": "svdtrace.nulls.chance",
    "characterise": "svdtrace.characterisation",
    "circuit": "svdtrace.faithfulness.result",
    "compare": "svdtrace.comparison",
    "decompose": "svdtrace.method.decomposition",
    "head_usage": "svdtrace.characterisation",
    "intervene": "svdtrace.interventions.intervening",
    "random_bases": "svdtrace.nulls.figure",
    "read": "svdtrace.folders.reading",
    "relative_weights": "svdtrace.method.relative",
    "reproduce": "svdtrace.reproduction.protocol",
    "stability": "svdtrace.nulls.stability",
    "sweep": "svdtrace.sweeping.running",
    "task_tokens": "svdtrace.characterisation",
    "trace": "svdtrace.tracing.trace",
}


def __getattr__(name: str) -> Any:
    if name in ("prompts", "testing"):
        return import_module(f"svdtrace.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

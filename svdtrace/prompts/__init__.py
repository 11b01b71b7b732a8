"""Prompts: read from files, made from text, or generated.

    prompts = svdtrace.prompts.ioi(64, model.tokenizer)
    prompts = svdtrace.prompts.read("prompts.jsonl", model.tokenizer, config=model.config)

Loads lazily, so that `svdtrace.prompts.language` can be used without the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdtrace.prompts.generators import ioi, ordinary, text
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.prompts.reading import from_records, from_texts, read, stream

__all__ = ["Prompt", "from_records", "from_texts", "ioi", "ordinary", "read", "stream", "text"]

_HOMES = {
    "Prompt": "prompt",
    "from_records": "reading",
    "from_texts": "reading",
    "ioi": "generators",
    "ordinary": "generators",
    "read": "reading",
    "stream": "reading",
    "text": "generators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What a model's heads can pass to each other, read off the weights alone, without a prompt.

    from svdtrace.atlas import write_atlas
    atlas = write_atlas(gpt2jax.load("gpt2"), "atlas")
    atlas.tables["composition"]

Numerics: `factors`, `composing`, `chance`, `medians`, `positivity`, `positions`, `directions`, put together by
`surveying`. Tables: `schemas` lists them, `tabulating` and `tokens` fill them; `prediction` holds a trace's edges
against them. `mapping` writes it all, `pictures` draws, `rendering` makes the page.
"""

from svdtrace.atlas.mapping import write_atlas
from svdtrace.atlas.result import Atlas

__all__ = ["Atlas", "write_atlas"]

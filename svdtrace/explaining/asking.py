"""Why a head attended there, asked by name; the answer shows itself."""

from __future__ import annotations

import re
from typing import Self

import pyarrow as pa

from svdtrace.errors import EdgeError, PromptError
from svdtrace.explaining.card import Card
from svdtrace.explaining.finding import OnePrompt
from svdtrace.explaining.notebook import as_html
from svdtrace.explaining.terminal import as_text
from svdtrace.prompts.edge_names import named_edge
from svdtrace.results.in_parts import InParts, Tables

_FIRING = re.compile(r"(\d+)\.(\d+)@([^@:,/]+)(?::([^@:,/]+))?")


class Why(Card):
    """A card that shows itself: `print(…)` in a terminal, by itself in a notebook."""

    @classmethod
    def of(cls, card: Card) -> Self:
        """The same card."""
        return cls(**vars(card))

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        picked = "" if self.picked is None else f", edge {self.picked}"
        its = self.firing
        return f"Why(prompt {its.prompt}, {its.name} at {its.dest} to {its.src}{picked})"

    def _repr_html_(self) -> str:
        return as_html(self)


def why(
    trace: InParts,
    prompt: int = 0,
    edge: str | None = None,
    firing: str | None = None,
    interventions: pa.Table | None = None,
    folder: str = "trace",
) -> Why:
    """Why a head attended there, in one prompt.

    Args:
        trace: a trace, or a sweep, of which the prompt's part alone is read.
        prompt: its 0-based place in the input.
        edge: `1.5:2.6@end:IO/src`; each end a role or a position.
        firing: `2.6@end:IO`, or `2.6@end` for where it attends most from there; without both, the topmost firing at
            the last token.
        interventions: `interventions.parquet`, for what taking edges away did.
        folder: what commands that the card names shall call the trace.

    Raises:
        PromptError: no such prompt in the trace.
        EdgeError: a name of another form, or of nothing that is in the trace of this prompt.
    """
    one = OnePrompt.of(_part(trace, prompt), trace.manifest, prompt, interventions, folder)
    if edge is not None:
        picked = named_edge(edge)
        place = one.place(picked.layer, picked.head, picked.dest, picked.src, f'edge "{edge}"')
        return Why.of(one.card(place, picked))
    if firing is None:
        return Why.of(one.card(one.topmost()))
    found = _FIRING.fullmatch(firing.strip())
    if not found:
        raise EdgeError(f'firing "{firing}" is not of the form LAYER.HEAD@DEST:SRC; write e.g. 2.6@end:IO, or 2.6@end')
    place = one.place(int(found[1]), int(found[2]), found[3], found[4], f'firing "{firing}"')
    return Why.of(one.card(place))


def _part(trace: InParts, prompt: int) -> Tables:
    """The part that has a prompt."""
    numbers: list[int] = []
    for part in trace.parts():
        its = part.prompts["prompt"].to_pylist()
        if prompt in its:
            return part
        numbers += its
        del part
    known = f"it has {len(numbers):,}, from {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
    raise PromptError(f"prompt {prompt} is not in the trace; {known}")

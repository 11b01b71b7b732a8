"""One prompt: token ids, their text, named positions, and the answer that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    """What a trace reads.

    Args:
        id: a name of one's own, unique among the prompts, or None.
        tokens: token ids.
        strings: the text of each token; the ids themselves where there is no tokenizer.
        roles: positions by name, e.g. `{"IO": 2, "S1": 4}`; the order counts where two share a position (METHOD.md,
            section 8).
        answer, distractor: token ids whose logits are compared, or None.
        text: the running text, as given or as the tokenizer writes the ids; None without a tokenizer.
        place: its 0-based place in the input that it was read from, empty lines counted; None if it was not read.
    """

    id: str | None
    tokens: tuple[int, ...]
    strings: tuple[str, ...]
    roles: dict[str, int] = field(default_factory=dict)
    answer: int | None = None
    distractor: int | None = None
    text: str | None = None
    place: int | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def last(self) -> int:
        """The last traced position: that of the role `end`, else the last token (METHOD.md, section 3)."""
        return self.roles.get("end", len(self.tokens) - 1)

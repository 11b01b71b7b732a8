"""What a planted circuit is: who writes which signal for whom, and which of these writers count as edges."""

from __future__ import annotations

from dataclasses import dataclass

from svdtrace.prompts.prompt import Prompt


@dataclass(frozen=True)
class Wire:
    """What one writer was made to put into one reader's signal.

    Args:
        writer, reader: `4.11`, `embed`, `pos`.
        side: `dest` (the query) or `src` (the key).
        i, j: roles of the tokens from which and to which the reader looks.
        amount: how much of the score is planted to come from it, in any unit that all wires of a reader's side share.
    """

    writer: str
    reader: str
    side: str
    i: str
    j: str
    amount: float = 1.0

    @property
    def t(self) -> str:
        """The role of the token at which it writes."""
        return self.i if self.side == "dest" else self.j

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What wires of one reader's side share."""
        return self.reader, self.side, self.i, self.j


@dataclass(frozen=True)
class Circuit:
    """All wires of a circuit, the roots from which it is traced, and prompts on which it works."""

    wires: tuple[Wire, ...]
    roots: str
    prompts: tuple[Prompt, ...]

    def shares(self) -> dict[Wire, float]:
        """Each writer's planted share of its reader's signal."""
        return {wire: wire.amount / sum(each.amount for each in self._beside(wire)) for wire in self.wires}

    def edges(self) -> dict[Wire, float]:
        """The true edges with their shares: those above 1 / (2 × writers of that signal)."""
        return {wire: share for wire, share in self.shares().items() if share > 1 / (2 * len(self._beside(wire)))}

    def _beside(self, wire: Wire) -> list[Wire]:
        return [each for each in self.wires if each.place == wire.place]

"""A mutant: one piece of the source, what stands there instead, and the test that should fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """A change of one file that leaves it a program, but a wrong one.

    Args:
        what: what is wrong then, in a few words; unique.
        file: under the repository's root.
        before, after: the text replaced, which stands there exactly once, and what takes its place.
        test: file of tests, or one test of it, that should fail.
        unseen: why no law of `svdtrace verify` can tell, where none does.
        raw: whether laws are tried of raw weights too.
    """

    what: str
    file: str
    before: str
    after: str
    test: str
    unseen: str = ""
    raw: bool = False

    def applied(self, source: str) -> str:
        """The file's text with the change.

        Raises:
            ValueError: what is to be replaced stands there more or less than once.
        """
        if source.count(self.before) != 1 or self.before == self.after:
            raise ValueError(f"{self.what}: stands {source.count(self.before)} times in {self.file}; write it anew")
        return source.replace(self.before, self.after)

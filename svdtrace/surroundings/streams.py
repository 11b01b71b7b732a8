"""Standard output and standard error as a command can rely on them, whatever it was started from."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

_GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO, errno.ECONNRESET}
"""What the system says of a stream whose reader has left, of a closed one, of a terminal that hung up."""
# Controls (C0 but tab and line feed, C1), line and paragraph separators, what turns the direction of text, surrogates.
_COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Text that is only shown by a terminal, never obeyed: what would move its cursor, clear it, or turn the order of
    what follows is written out.

    Names, tokens and messages come from files of strangers, who may have put such characters there.

    Example:
        >>> visible("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return _COMMANDING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Within it printing never fails, but for want of room: what nobody reads is dropped, what cannot be encoded
    becomes `?`. A stream that is `None` or closed is one that nobody reads.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        usable = [nowhere if each is None or each.closed else each for each in before]
        sys.stdout, sys.stderr = (cast(TextIO, _Lenient(each)) for each in usable)
        try:
            yield
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can move its cursor, so that a line may be drawn over."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _fill_descriptors() -> None:
    """Let no file that is opened later take the place of a closed standard stream, where libraries write messages."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Lenient:
    """A stream for writing; all but writing is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be encoded and is read."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding, getattr(self._stream, "errors", None) or "strict")
        except UnicodeEncodeError:
            text = text.encode(encoding, "replace").decode(encoding)
        with self._unless_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        with self._unless_gone():
            self._stream.flush()

    @contextlib.contextmanager
    def _unless_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            # Else Python would complain once more when it closes the stream.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._stream.fileno())

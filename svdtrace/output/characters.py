r"""Text in files that cannot hold every character: XML has no control characters, UTF-8 no lone surrogates.

Roles and tokens may hold any. What a file cannot is written as `\u0001`, and a backslash of the text itself that would
read as such an escape as `\u005c`, so that `unescaped` is the exact inverse and different texts never look alike.
"""

from __future__ import annotations

import re

# XML 1.0, production 2 (Char); a carriage return is one, but parsers read it as a line feed.
_UNHELD = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
_LIKE_ESCAPE = re.compile(r"\\(?=u[0-9a-f]{4})")


def escaped(text: str) -> str:
    r"""The text with characters that XML or UTF-8 cannot hold written out.

    Example:
        >>> escaped("a\x01b")
        'a\\u0001b'
    """
    return _UNHELD.sub(lambda found: f"\\u{ord(found[0]):04x}", _LIKE_ESCAPE.sub(r"\\u005c", text))


def unescaped(text: str) -> str:
    """What `escaped` wrote out, put back."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)

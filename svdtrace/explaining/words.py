"""How numbers, tokens and writers are called; nothing in a token is ever taken for more than text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from svdtrace.explaining.card import Card, Firing, Writer

SIDES = {"dest": "query side", "src": "key side"}
MEANING = {"dest": "what it looks for", "src": "what makes it find it there"}
_SEEN = {"\n": "⏎", "\r": "⏎", "\t": "⇥", "\u2028": "⏎", "\u2029": "⏎"}


def visible(text: str) -> str:
    r"""A token with what cannot be seen made visible: line breaks as signs, other controls as `\x1b`."""
    shown = (_SEEN.get(letter, letter) for letter in text)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown) or "∅"


def token(strings: Sequence[str], position: int) -> str:
    """A token in quotation marks."""
    return f"“{visible(strings[position])}”"


def between(strings: Sequence[str], text: str | None) -> str:
    """What stands between tokens in running text: a space where tokens carry none, as words and ids do.

    Args:
        strings: of the tokens; text: that they were cut from, None without a tokenizer.
    """
    spaced = all(each.isdecimal() for each in strings) if text is None else any(map(str.isspace, text.strip()))
    return " " if spaced and not any(any(map(str.isspace, each)) for each in strings) else ""


def running(firing: Firing) -> str:
    """The text up to the destination."""
    return firing.between.join(map(visible, firing.strings[: firing.dest + 1])).strip()


def place(firing: Firing, position: int) -> str:
    """A token with its role, or where it has none its position: `“ Mary” (IO)`."""
    return f"{token(firing.strings, position)} ({role(firing.roles, position)})"


def role(roles: Mapping[int, str], position: int) -> str:
    """The role of a position, else the position."""
    return visible(roles[position]) if position in roles else str(position)


def edge_name(firing: Firing, writer: Writer) -> str:
    """An edge as commands take it, `1.5:2.6@end:IO/src`."""
    ends = (_end(firing.roles, each) for each in (firing.dest, firing.src))
    return f"{writer.name}:{firing.name}@{':'.join(ends)}/{writer.side}"


def firing_name(firing: Firing) -> str:
    """A firing as commands take it, `2.6@end:IO`."""
    return named_firing(firing, firing.name, firing.dest, firing.src)


def named_firing(firing: Firing, head: str, dest: int, src: int) -> str:
    """Another firing of the same prompt, likewise."""
    return f"{head}@{_end(firing.roles, dest)}:{_end(firing.roles, src)}"


def _end(roles: Mapping[int, str], position: int) -> str:
    """A role that a name can hold, else the position."""
    named = roles.get(position, "")
    return named if named and named.isprintable() and not set(named) & set("@:,/*' \"") else str(position)


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "–"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def percent(value: float | None) -> str:
    """A share; one decimal below ten percent, and where it is nearly all."""
    if value is None:
        return "–"
    if 0 < abs(value) < 0.0005:
        return "<0.1%" if value > 0 else ">-0.1%"
    return f"{value:.1%}" if abs(value) < 0.0995 or 0.995 <= abs(value) < 1.0005 else f"{value:.0%}"


def weight(card: Card, value: float | None) -> str:
    """A weight in the trace's unit: a part of the score, or under `relative` points of attention probability."""
    return percent(value) if card.firing.relative else number(value)


def who(name: str) -> str:
    """A writer in a sentence."""
    kinds = {
        "embed": "the token's embedding",
        "pos": "the position's embedding",
        "const": "the constant",
    }
    if name in kinds:
        return kinds[name]
    kind, _, layer = name.rpartition(".")
    if kind == "mlp":
        return f"the MLP of layer {layer}"
    return f"the attention bias of layer {layer}" if kind == "attn_bias" else f"head {name}"

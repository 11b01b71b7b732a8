"""A card as lines of text, 80 columns wide."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from svdtrace.explaining import told, words
from svdtrace.explaining.card import Card, Key, Writer

WIDTH = 80
KEYS, VECTORS, BAR = 6, 10, 20


def as_text(card: Card, width: int = WIDTH) -> str:
    """The card."""
    its = card.firing
    paragraphs = [told.headline(card), told.of_picked(card)]
    blocks = [
        _wrapped(f"Prompt {its.prompt}: {_so_far(card, 2 * width - 30)}", width),
        [line for text in paragraphs if text for line in _wrapped(text, width)],
        _where(card, width),
        _vectors(card, width),
        _writers(card, width),
        _left(card, width),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)


def _so_far(card: Card, most: int) -> str:
    """The text up to the destination, its end where it is long."""
    text = words.running(card.firing)
    return text if len(text) <= most else f"… {text[-most:].partition(' ')[2]}"


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, drop_whitespace=True) or [""]


def _where(card: Card, width: int) -> list[str]:
    """The row over the tokens, the strongest first."""
    its = card.firing
    if its.keys is None:
        return []
    shown = sorted(its.keys, key=lambda key: -key.pattern)[:KEYS]
    if its.src not in [key.token for key in shown]:
        shown[-1] = its.keys[its.src]
    columns = f"{'attention':>9}  {'':{BAR}}  {'score':>7}" + (f"  {'M':>7}" if its.relative else "")
    lines = [f"{'Where it looks':30}{columns}"]
    lines += [f"{_mark(key.token == its.src)}{_named(card, key.token, 28)}{_key(card, key)}" for key in shown]
    rest = [key for key in its.keys if key not in shown]
    if rest:
        others = f"  and {len(rest)} other token{'s' if len(rest) > 1 else ''}"
        lines.append(f"{others:30}{words.percent(sum(key.pattern for key in rest)):>9}")
    return [line[:width] for line in lines]


def _key(card: Card, key: Key) -> str:
    line = f"{words.percent(key.pattern):>9}  {_bar(key.pattern, 1.0)}  {words.number(key.score):>7}"
    return line + (f"  {words.number(key.path):>7}" if card.firing.relative else "")


def _vectors(card: Card, width: int) -> list[str]:
    """The slice as bars, and who wrote most into each vector on each side."""
    its = card.firing
    lines = _wrapped(f"Through what: {told.through(card)}", width)
    largest = max((abs(each.product) for each in its.vectors), default=1.0)
    sides = [side for side in words.SIDES if any(each.by_vector for each in card.side(side))]
    titles = [f"{words.SIDES[side]}, most by" for side in sides]
    lines.append(f"  vector  product  {'':{BAR}}  " + "  ".join(f"{title:18}" for title in titles))
    for place, vector in enumerate(its.vectors[:VECTORS]):
        by = "  ".join(f"{_most(card, side, place):18}" for side in sides)
        lines.append(
            f"  {vector.number:>6}  {words.weight(card, vector.product):>7}  {_bar(vector.product, largest)}  {by}"
        )
    rest = its.vectors[VECTORS:]
    if rest:
        lines.append(f"  and {len(rest)} more, {words.weight(card, sum(each.product for each in rest))} together")
    return lines


def _most(card: Card, side: str, place: int) -> str:
    best = told.most_into(card, side, place)
    if best is None or best.by_vector is None:
        return "none of these"
    return f"{best.name:11}{words.weight(card, best.by_vector[place]):>7}"


def _writers(card: Card, width: int) -> list[str]:
    """Who wrote what it reads, on each side."""
    its = card.firing
    if not card.writers:
        return ["Who wrote it: no earlier writer counts as an edge."]
    further = [name for name in told.COLUMNS if any(name in each.evidence for each in card.writers)]
    if any(each.here is not None for each in card.writers):
        further = ["here", "rivals", *further]
    if any(each.drop is not None for each in card.writers):
        further.append("drop")
    titles = {**told.COLUMNS, "here": "here", "rivals": "at rivals", "drop": "drop"}
    numbers = "".join(f"{titles[name]:>10}" for name in further)
    room = width - 20 - 10 * len(further)
    lines = [set_cell_size("Who wrote it ← what that read", room) + f"{'weight':>10}{'share':>10}{numbers}"]
    for side, name in words.SIDES.items():
        mine = card.side(side)
        if not mine:
            continue
        at = words.place(its, its.dest if side == "dest" else its.src)
        lines += _wrapped(f"{name}, at {at}: {words.MEANING[side]}", width, "  ", "  ")
        lines += [_writer(card, each, room, further) for each in mine]
    return lines


def _writer(card: Card, writer: Writer, room: int, further: Sequence[str]) -> str:
    its = card.firing
    at = {"dest": its.dest, "src": its.src}[writer.side]
    name = writer.name if writer.token == at else f"{writer.name} at {words.place(its, writer.token)}"
    seen = "; ".join(words.place(its, each.token) for each in writer.attended[:2])
    called = f"{_mark(writer is card.chosen)}  {name}" + (f" ← {seen}" if seen else "")
    cells = [words.weight(card, writer.weight), words.percent(writer.share)]
    values = {"here": writer.here, "rivals": writer.rivals, "drop": writer.drop}
    for each in further:
        cells.append(words.percent(values[each]) if each in values else told.evidence(writer, each))
    return _fitted(called, room) + "".join(f"{cell:>10}" for cell in cells)


def _left(card: Card, width: int) -> list[str]:
    lines = ["What is left of it"]
    for name, sentence in told.left_of_it(card):
        lines += _wrapped(sentence, width, f"  {name:16}", " " * 18)
    for note in told.notes(card):
        lines += _wrapped(note, width, "  note            ", " " * 18)
    onward = next((each for each in card.writers if each.attended and each.attended[0].pattern is not None), None)
    chosen = card.chosen
    if chosen is not None and chosen.attended and chosen.attended[0].pattern is not None:
        onward = chosen
    if onward is not None:
        its = card.firing
        name = words.named_firing(its, onward.name, onward.token, onward.attended[0].token)
        lines += _wrapped(
            f"Why {onward.name} did so: svdtrace why {shlex.quote(card.folder)} --prompt {its.prompt} --firing {name}",
            width,
            "  ",
            "    ",
        )
    return lines


def _mark(chosen: bool) -> str:
    return "▸ " if chosen else "  "


def _named(card: Card, token: int, room: int) -> str:
    its = card.firing
    role = f" ({words.role(its.roles, token)})" if token in its.roles else ""
    return _fitted(f"{token:>3} {words.token(its.strings, token)}{role}", room)


def _fitted(text: str, room: int) -> str:
    """Text in so many cells of a terminal, cut with a sign where it is longer."""
    if cell_len(text) <= room:
        return set_cell_size(text, room)
    return set_cell_size(set_cell_size(text, room - 2).rstrip() + "…", room)


def _bar(value: float, largest: float) -> str:
    """A bar of at most `BAR` cells, to eighths of one."""
    eighths = round(8 * BAR * min(1.0, max(0.0, abs(value) / (largest or 1.0))))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(BAR)

"""A card as HTML for a notebook: no script, nothing loaded, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from svdtrace.explaining import told, words
from svdtrace.explaining.card import Card, Firing, Writer

KEYS, VECTORS = 8, 12
COLOURS = {"dest": "#0072b2", "src": "#d55e00"}
BAR, GREY = "#7f8fa6", "#8a8a8a"
Row = Sequence[str]


def as_html(card: Card) -> str:
    """The card."""
    its = card.firing
    picked = told.of_picked(card)
    parts = [
        _tokens(its),
        f"<p><b>{escape(told.headline(card))}</b>{f' {escape(picked)}' if picked else ''}</p>",
        _keys(card),
        f"<p>{escape(told.through(card))}</p>",
        _vectors(card),
        _writers(card),
        "".join(f"<div><b>{escape(name)}:</b> {escape(said)}</div>" for name, said in told.left_of_it(card)),
        "".join(f'<div style="color:{GREY}">{escape(note)}</div>' for note in told.notes(card)),
    ]
    return f'<div style="max-width:52em;line-height:1.4">{"".join(parts)}</div>'


def _tokens(firing: Firing) -> str:
    """The sentence up to the destination, shaded by attention, the two tokens framed."""
    shares = {key.token: key.pattern for key in firing.keys or ()} or {firing.src: firing.pattern}
    frames = {firing.dest: COLOURS["dest"], firing.src: COLOURS["src"]}
    spans = []
    for at, text in enumerate(firing.strings[: firing.dest + 1]):
        style = f"background:rgba(213,94,0,{0.55 * shares.get(at, 0.0):.2f});border-radius:3px"
        if at in frames:
            style += f";box-shadow:0 0 0 1.5px {frames[at]}"
        title = f"{at}" + (f", {words.role(firing.roles, at)}" if at in firing.roles else "")
        shown = escape(words.visible(text))
        spans.append(f'<span style="{style}" title="{escape(title)}">{shown}</span>')
    return f'<p style="font-family:monospace;white-space:pre-wrap">{firing.between.join(spans)}</p>'


def _keys(card: Card) -> str:
    its = card.firing
    if its.keys is None:
        return ""
    shown = sorted(its.keys, key=lambda key: -key.pattern)[:KEYS]
    rows = [
        (
            escape(words.place(its, key.token)),
            words.percent(key.pattern),
            _bar(key.pattern, COLOURS["src"] if key.token == its.src else BAR),
            words.number(key.score),
            *((words.number(key.path),) if its.relative else ()),
        )
        for key in shown
    ]
    titles = ("where it looks", "attention", "", "score", *(("M",) if its.relative else ()))
    return _table(titles, rows)


def _vectors(card: Card) -> str:
    its = card.firing
    largest = max((abs(each.product) for each in its.vectors), default=1.0) or 1.0
    sides = [side for side in words.SIDES if any(each.by_vector for each in card.side(side))]
    rows = []
    for place, vector in enumerate(its.vectors[:VECTORS]):
        by = [escape(_most(card, side, place)) for side in sides]
        bar = _bar(abs(vector.product) / largest, BAR)
        rows.append((str(vector.number), words.weight(card, vector.product), bar, *by))
    return _table(("vector", "product", "", *(f"{words.SIDES[side]}, most by" for side in sides)), rows)


def _most(card: Card, side: str, place: int) -> str:
    each = told.most_into(card, side, place)
    return "–" if each is None or each.by_vector is None else f"{each.name} {words.weight(card, each.by_vector[place])}"


def _writers(card: Card) -> str:
    rows = [_writer(card, each) for each in card.writers]
    against = any(each.here is not None for each in card.writers)
    evidence = [name for name in told.COLUMNS if any(name in each.evidence for each in card.writers)]
    titles = ("who wrote it", "at", "what it attended to", "weight", "share")
    titles += (("here", "at rivals") if against else ()) + tuple(told.COLUMNS[name] for name in evidence)
    cells = [
        (*row, *((words.percent(each.here), words.percent(each.rivals)) if against else ()), *_evidence(each, evidence))
        for row, each in zip(rows, card.writers, strict=True)
    ]
    return _table(titles, cells)


def _writer(card: Card, writer: Writer) -> Row:
    its = card.firing
    name = f"<b>▸ {escape(writer.name)}</b>" if writer is card.chosen else escape(writer.name)
    seen = "; ".join(words.place(its, each.token) for each in writer.attended[:3])
    side = f'<span style="color:{COLOURS[writer.side]}">{words.SIDES[writer.side]}</span>'
    place = f"{escape(words.place(its, writer.token))}, {side}"
    return name, place, escape(seen) or "–", words.weight(card, writer.weight), words.percent(writer.share)


def _evidence(writer: Writer, names: Sequence[str]) -> Row:
    return tuple(told.evidence(writer, name) for name in names)


def _bar(share: float, colour: str) -> str:
    width = 100 * min(1.0, max(0.0, share))
    return (
        '<div style="width:10em;background:rgba(128,128,128,.15)">'
        f'<div style="width:{width:.1f}%;height:.8em;background:{colour}"></div></div>'
    )


def _table(titles: Row, rows: Sequence[Row]) -> str:
    head = "".join(f'<th style="text-align:left">{escape(title)}</th>' for title in titles)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f'<table style="margin:.4em 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

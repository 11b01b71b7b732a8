"""The sentences of a card, the same in terminal, notebook and page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from svdtrace.explaining import words
from svdtrace.explaining.card import Attended, Card, Effect, Firing, Writer
from svdtrace.explaining.effects import LEAST_EFFECT

NULLS = {"p_slices": "random slices", "p_bases": "random bases", "p_prompts": "writers' outputs of another prompt"}
COLUMNS = {"q_value": "q", "stability": "stability"}
"""What of the evidence stands in a card's table."""
PLACES = {"local": "In this head alone", "global": "In everything that follows"}
CONTROLS = {"norm": "random directions of the same size", "random": "as many random directions"}


def headline(card: Card) -> str:
    """Where the head attends."""
    its = card.firing
    return (
        f"Head {its.name} at {words.place(its, its.dest)} gives {words.percent(its.pattern)} of its attention to "
        f"{words.place(its, its.src)}."
    )


def through(card: Card) -> str:
    """Through how many vectors."""
    its = card.firing
    many = len(its.vectors)
    made = f"{many} of {its.of_vectors} singular vectors {'makes' if many == 1 else 'make'}"
    if its.relative:
        even = 1 / (its.dest + 1)
        return (
            f"{made} what it attends beyond an even share ({words.percent(its.pattern)} against {words.percent(even)})."
        )
    summed = words.number(sum(each.product for each in its.vectors))
    return f"{made} its score of {words.number(its.score)}; their products, before scaling, sum to {summed}."


def of_picked(card: Card) -> str | None:
    """What the edge asked about is worth."""
    writer = card.chosen
    if writer is None:
        return None
    its = card.firing
    what = "what it looks for" if writer.side == "dest" else "what makes it look there"
    share = "" if writer.share is None else f", {words.percent(writer.share)} of {what_was_written(card)}"
    unit = " of attention" if its.relative else " of the vectors' sum"
    who = words.who(writer.name)
    said = (
        f"{who[0].upper()}{who[1:]} wrote at {words.place(its, writer.token)} into {what} "
        f"({words.SIDES[writer.side]}): {words.weight(card, writer.weight)}{unit}{share}."
    )
    if writer.attended:
        said += f" It had attended there to {_listed(its, writer.attended)}."
    if writer.here is not None:
        said += (
            f" At {words.place(its, its.src)} itself this is worth {words.percent(writer.here)}, at its rivals, all "
            f"other keys, {words.percent(writer.rivals)}."
        )
    return said


def what_was_written(card: Card) -> str:
    """What shares are of."""
    return "what heads wrote there" if card.heads_alone else "all that is written there"


def odd_shares(card: Card) -> str | None:
    """How a share can be above all or below nothing, where one is."""
    odd = [each for each in card.writers if each.share is not None and not 0 <= each.share <= 1]
    if not odd:
        return None
    largest = max(odd, key=lambda each: abs(each.share or 0.0))
    said = (
        f"A share of {words.percent(largest.share)}: weights of both signs sum to the whole, so that where writers "
        "work against each other one of them can have more than all of it, or less than nothing."
    )
    if card.heads_alone:
        said += (
            " Shares are of what heads wrote: what MLPs, biases and embeddings wrote is not among it; trace with "
            "--writers all for shares of everything."
        )
    return said


def _listed(firing: Firing, attended: Sequence[Attended]) -> str:
    parts = [
        words.place(firing, each.token) + ("" if each.pattern is None else f", {words.percent(each.pattern)}")
        for each in attended[:3]
    ]
    return "; ".join(parts)


def most_into(card: Card, side: str, place: int) -> Writer | None:
    """Who wrote most on one side into the vector at a place of the slice; none where nobody wrote along it."""
    best, largest = None, 0.0
    for each in card.side(side):
        if each.by_vector is not None and each.by_vector[place] > largest:
            best, largest = each, each.by_vector[place]
    return best


def evidence(writer: Writer, name: str) -> str:
    """What a column of `COLUMNS` has of an edge."""
    value = writer.evidence.get(name)
    return words.percent(value) if name == "stability" else _probability(value)


def left_of_it(card: Card) -> list[tuple[str, str]]:
    """What chance, other settings and ablation leave of it, each with its name; or that nobody asked."""
    writer = card.chosen
    return [
        ("Chance", _chance(card, writer)),
        ("Other settings", _settings(card, writer)),
        ("Taken away", _ablation(card, writer)),
    ]


def answers(card: Card, writer: Writer) -> list[tuple[str, str]]:
    """The same of any of its edges, what nobody asked left out."""
    asked = (bool(card.asked.chance), bool(card.asked.stability), card.asked.interventions)
    said = (_chance, _settings, _ablation)
    names = ("Chance", "Other settings", "Taken away")
    return [(name, tell(card, writer)) for name, tell, was in zip(names, said, asked, strict=True) if was]


def notes(card: Card) -> list[str]:
    """What is to be known before the numbers are trusted."""
    found = [odd] if (odd := odd_shares(card)) else []
    if card.firing.near_tie:
        found.append("The choice of vectors is near a tie: rounding may choose others.")
    if any(each.near_tie for each in card.writers):
        found.append("The choice of writers is near a tie: rounding may choose others.")
    if any(each.unreached for each in card.writers):
        found.append("Without all positive writers the head would still attend there (unreached).")
    if card.firing.relative and card.firing.keys is not None:
        found.append(
            "M: by how much the attention rises with the score there, along the path from no scores at all. Here: "
            "what the writer did at the token attended to; at rivals: at all other tokens."
        )
    if card.firing.keys is None:
        found.append(
            "The trace keeps scores over the tokens, and what writers put into each vector, of its first prompts "
            "alone; trace this one by itself for them."
        )
    return found


def _chance(card: Card, writer: Writer | None) -> str:
    if not card.asked.chance:
        return "not asked; svdtrace trace … --nulls 199 asks, --fdr 0.05 keeps what survives."
    if writer is None:
        return f"q of each edge stands in the table ({card.asked.chance} nulls of each kind)."
    its = writer.evidence
    if its.get("q_value") is None:
        return f"nothing is known of this edge ({card.asked.chance} nulls of each kind)."
    parts = [
        f"{_probability(its.get(name))} against {null}" for name, null in NULLS.items() if its.get(name) is not None
    ]
    q = its["q_value"] or 0.0
    verdict = "it stands out from chance" if q <= 0.05 else "it is not told from chance by so many nulls"
    return (
        f"p {', '.join(parts)}; q {_probability(q)}: at a false-discovery rate of 5% {verdict} ({card.asked.chance} "
        f"of each kind, which give no p below {_probability(1 / (1 + card.asked.chance))})."
    )


def _probability(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _settings(card: Card, writer: Writer | None) -> str:
    many = len(card.asked.stability)
    if not many:
        return "not asked; svdtrace trace … --stability asks."
    if writer is None:
        return f"stability of each edge stands in the table: its share of {many} reruns."
    share = writer.evidence.get("stability")
    if share is None:
        return f"nothing is known of this edge ({many} reruns)."
    return f"the edge is there in {round(share * many)} of {many} reruns ({', '.join(card.asked.stability)})."


def _ablation(card: Card, writer: Writer | None) -> str:
    if card.asked.interventions:
        if writer is None:
            tried = [each.name for each in card.writers if each.effects]
            if tried:
                return f"tried for {', '.join(tried)}; ask for one of them with --edge."
            return "none of these edges was tried in this prompt."
        if writer.effects:
            return " ".join(_effect(each) for each in writer.effects)
        return "this edge was not tried in this prompt."
    of = writer or max(card.writers, key=lambda each: each.weight, default=None)
    if of is None:
        return "not asked, and there is no edge to take away."
    name = shlex.quote(words.edge_name(card.firing, of))
    return (
        f"not asked; svdtrace intervene --from {shlex.quote(card.folder)} --edges {name} --control norm --out cut asks "
        "(with the --model that the trace had), svdtrace why … --with cut tells."
    )


def _effect(effect: Effect) -> str:
    pattern, difference = effect.pattern, effect.logit_difference
    said = []
    if pattern[0] is not None:
        said.append(f"attention {words.percent(pattern[0])} → {words.percent(pattern[1])}")
    if difference[0] is not None:
        said.append(f"logit difference {words.number(difference[0])} → {words.number(difference[1])}")
    beside = []
    if effect.control is not None:
        if pattern[2] is not None:
            beside.append(words.percent(pattern[2]))
        if difference[2] is not None:
            beside.append(words.number(difference[2]))
        beside = [f"; with {CONTROLS[effect.control]} {' and '.join(beside)}"]
    small = f": under {LEAST_EFFECT:.0%}, too small to matter" if _is_small(pattern, difference) else ""
    return f"{PLACES[effect.where]}: {', '.join(said)}{small}{''.join(beside)}."


def _is_small(*measured: tuple[float | None, float | None, float | None]) -> bool:
    """Whether nothing that was measured changed by as much as matters."""
    known = [(before, after) for before, after, _ in measured if before is not None and after is not None]
    return bool(known) and all(abs(after - before) < LEAST_EFFECT * abs(before) for before, after in known)

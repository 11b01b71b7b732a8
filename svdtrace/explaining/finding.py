"""From a trace's tables to the card of one firing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from svdtrace.errors import EdgeError
from svdtrace.explaining import words
from svdtrace.explaining.card import Asked, Attended, Card, Firing, Key, Vector, Writer
from svdtrace.explaining.effects import Effects
from svdtrace.pictures.traced import model_of
from svdtrace.prompts.edge_names import EdgeName, position
from svdtrace.results.in_parts import Tables

PLACE = ("layer", "head", "dest", "src")
EVIDENCE = ("stability", "p_slices", "p_bases", "p_prompts", "q_value")
LISTED = 6

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class OnePrompt:
    """A prompt of a trace with its rows, by firing (layer, head, dest, src).

    Args:
        row: of `prompts.parquet`; firings, edges, close: rows by firing.
        effects: of taking edges away; None where nobody asked.
    """

    row: Mapping[str, Any]
    firings: Mapping[Place, Mapping[str, Any]]
    edges: Mapping[Place, list[dict[str, Any]]]
    close: Mapping[Place, list[dict[str, Any]]]
    config: Mapping[str, Any]
    d_head: int
    asked: Asked
    effects: Effects | None
    folder: str

    @classmethod
    def of(
        cls,
        part: Tables,
        manifest: Mapping[str, Any],
        prompt: int,
        interventions: pa.Table | None = None,
        folder: str = "trace",
    ) -> OnePrompt:
        """A prompt of a trace's part, which has it."""
        row, firings = _rows(part.prompts, prompt), _rows(part.firings, prompt)
        closely = getattr(part, "close_ups", None)
        roles = dict(row[0]["roles"] or [])
        chance = manifest.get("chance") or {}
        rerun = (manifest.get("stability") or {}).get("reruns", ())
        return cls(
            row=row[0],
            firings={_place(each): each for each in firings},
            edges=_by_place(_rows(part.edges, prompt)),
            close={} if closely is None else _by_place(_rows(closely, prompt)),
            config=manifest.get("config", {}),
            d_head=int(model_of(manifest).get("d_head", max((each["size"] for each in firings), default=0))),
            asked=Asked(int(chance.get("nulls", 0)), tuple(rerun), interventions is not None),
            effects=None if interventions is None else Effects(interventions, prompt, roles),
            folder=folder,
        )

    @property
    def roles(self) -> dict[int, str]:
        """The role of each position, the last listed of several."""
        return {at: role for role, at in self.row["roles"] or []}

    def topmost(self) -> Place:
        """The firing at the last token that has any, in the highest layer, with most attention.

        Raises:
            EdgeError: the prompt has no firing.
        """
        if not self.firings:
            raise EdgeError(f"prompt {self.row['prompt']}: {self._nothing()}")
        return max(self.firings, key=lambda place: (place[2], place[0], self.firings[place]["pattern"]))

    def place(self, layer: int, head: int, dest: str, src: str | None, asked: str) -> Place:
        """The firing that a name means.

        Args:
            src: None for the key that the head attends to most; asked: how errors call it.

        Raises:
            EdgeError: the prompt has no such role or position, or the head does not fire there.
        """
        named = dict(self.row["roles"] or [])
        ends = [position(end, named) for end in (dest, src) if end is not None]
        where = f"{asked}: prompt {self.row['prompt']}"
        for end, at in zip((dest, src), ends, strict=False):
            if at is None or at >= len(self.row["strings"]):
                known = f"its roles are {', '.join(named)}" if named else "it has no roles; give positions"
                raise EdgeError(f'{where} has no "{end}"; {known}')
        fitting = [
            place
            for place in self.firings
            if place[:2] == (layer, head) and place[2] == ends[0] and (src is None or place[3] == ends[1])
        ]
        if not fitting:
            raise EdgeError(f"{where} has no such firing; {self._instead(layer, head)}")
        return max(fitting, key=lambda place: self.firings[place]["pattern"])

    def _instead(self, layer: int, head: int) -> str:
        """What may have been meant."""
        of_head = [place for place in self.firings if place[:2] == (layer, head)]
        near = of_head or sorted(self.firings, key=lambda place: (-place[2], -place[0]))
        names = [words.firing_name(self.firing(place)) for place in near[:LISTED]]
        if not names:
            return self._nothing()
        more = f" and {len(near) - LISTED} more" if len(near) > LISTED else ""
        what = f"{layer}.{head} fires at" if of_head else f"{layer}.{head} never fires there, others do:"
        return f"{what} {', '.join(names)}{more}"

    def _nothing(self) -> str:
        """Why there is no firing, and what to do."""
        roots = self.config.get("roots", "all")
        if roots == "all":
            return "no head fires; trace with a lower --threshold"
        return (
            f"nothing leads to roots {roots}, where no head fires; trace without --roots, or with a lower --threshold"
        )

    def cards(self) -> Iterator[Card]:
        """The card of every firing."""
        return (self.card(place) for place in self.firings)

    def card(self, place: Place, picked: EdgeName | None = None) -> Card:
        """The card of one firing.

        Args:
            picked: the edge asked about.

        Raises:
            EdgeError: the edge is not in the trace.
        """
        firing = self.firing(place)
        writers = [self._writer(firing, place, each) for each in self.edges.get(place, [])]
        writers.sort(key=lambda each: (each.side != "dest", -each.weight))
        card = Card(firing, tuple(writers), self.asked, picked, self.folder, self.config.get("writers") == "heads")
        if picked is not None and card.chosen is None:
            there = ", ".join(each.name for each in card.side(picked.side)) or "none"
            raise EdgeError(
                f'edge "{picked}": {picked.writer} is no edge of {firing.name} on that side in prompt '
                f"{firing.prompt}; those that are: {there}. Trace with --writers all or a higher --coverage for more"
            )
        return card

    def firing(self, place: Place) -> Firing:
        """What stands in its row, and in its close-up."""
        row = self.firings[place]
        layer, head, dest, src = place
        own = next((each for each in self.close.get(place, []) if each["writer"] is None), None)
        return Firing(
            prompt=self.row["prompt"],
            strings=tuple(self.row["strings"]),
            roles=self.roles,
            layer=layer,
            head=head,
            dest=dest,
            src=src,
            pattern=row["pattern"],
            score=row["score"],
            total=row["total"],
            near_tie=row["near_tie"],
            of_vectors=self.d_head,
            method=str(self.config.get("method", "exact")),
            vectors=tuple(Vector(*each) for each in zip(row["slice"], row["products"], strict=True)),
            keys=None if own is None else _keys(own),
            between=words.between(self.row["strings"], self.row.get("text")),
        )

    def _writer(self, firing: Firing, place: Place, row: Mapping[str, Any]) -> Writer:
        mine = (row["writer"], row["side"], row["token"])
        rows = self.close.get(place, [])
        closely = next((each for each in rows if (each["writer"], each["side"], each["token"]) == mine), None)
        here, rivals = self._against_rivals(firing, row, closely)
        writer = Writer(
            name=row["writer"],
            side=row["side"],
            token=row["token"],
            weight=row["weight"],
            share=None if row["nonpositive_total"] else row["share"],
            by_vector=None if closely is None else tuple(closely["by_vector"]),
            here=here,
            rivals=rivals,
            drop=row.get("drop"),
            attended=self._attended(row),
            near_tie=row["near_tie"],
            unreached=bool(row.get("unreached")),
            evidence={name: row[name] for name in EVIDENCE if name in row},
        )
        effects = () if self.effects is None else self.effects.of(firing, writer)
        return Writer(**{**vars(writer), "effects": effects}) if effects else writer

    def _against_rivals(
        self, firing: Firing, row: Mapping[str, Any], closely: Mapping[str, Any] | None
    ) -> tuple[float | None, float | None]:
        """Of a weight under `relative`, what was done at the source, and what at the other keys together."""
        whole = row["side"] == "dest" or self.config.get("keys", "summed") == "summed"
        if not firing.relative or not whole:
            return None, None
        if row.get("own") is not None:
            return row["own"], row["weight"] - row["own"]
        if closely is None or firing.keys is None or closely["scores"] is None:
            return None, None
        put, path = np.asarray(closely["scores"]), firing.keys[firing.src].path
        here = float((path or 0.0) * (put[firing.src] - put.mean()))
        return here, row["weight"] - here

    def _attended(self, row: Mapping[str, Any]) -> tuple[Attended, ...]:
        """What a head attended to where it wrote: under `relative` what the edge is through, else where it fires."""
        if row["writer_head"] is None:
            return ()
        start = (row["writer_layer"], row["writer_head"], row["token"])
        if row.get("through") is not None:
            fires = ((at, self.firings.get((*start, at))) for at in row["through"])
            return tuple(Attended(at, None if each is None else each["pattern"]) for at, each in fires)
        mine = [(place[3], each["pattern"]) for place, each in self.firings.items() if place[:3] == start]
        return tuple(Attended(*each) for each in sorted(mine, key=lambda each: -each[1]))


def _keys(row: Mapping[str, Any]) -> tuple[Key, ...]:
    scores = np.asarray(row["scores"], float)
    power = np.exp(scores - scores.max())
    path = row["path"] or [None] * len(scores)
    return tuple(Key(*each) for each in zip(range(len(scores)), power / power.sum(), scores, path, strict=True))


def _rows(table: pa.Table, prompt: int) -> list[dict[str, Any]]:
    return table.filter(pc.field("prompt") == prompt).to_pylist()


def _place(row: Mapping[str, Any]) -> Place:
    return row["layer"], row["head"], row["dest"], row["src"]


def _by_place(rows: list[dict[str, Any]]) -> dict[Place, list[dict[str, Any]]]:
    found: dict[Place, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(_place(row), []).append(row)
    return found

"""From sets of edges to edits: every place, direction, control and seed asked for (METHOD.md, section 10)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from svdtrace.interventions.edits import Edit, make_edit, matched, reach, turned
from svdtrace.interventions.scene import Scene
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.interventions.signals import Sending, drawn, scaled, signals
from svdtrace.interventions.windows import NOWHERE
from svdtrace.method.decomposition import Decomposition
from svdtrace.prompts.edge_names import EdgeName

SIGNS = {"ablate": -1, "boost": 1}
Substitute = Mapping[EdgeName, Float[np.ndarray, "place d_model"]]


@dataclass(frozen=True)
class Spec:
    """A set of edges that are edited together; `name` is how it was asked for."""

    name: str
    edges: tuple[EdgeName, ...]


@dataclass(frozen=True)
class Run:
    """One intervention: its place among all, and what names it in the table. `seed` is -1 without a control."""

    row: int
    spec: Spec
    where: str
    direction: str
    control: str
    seed: int


def list_runs(specs: Sequence[Spec], config: InterventionConfig) -> list[Run]:
    """All interventions asked for, in the order of the table."""
    runs: list[Run] = []
    for spec in specs:
        for where in config.wheres:
            for direction in config.directions:
                for control, seed in [("none", -1), *((config.control, seed) for seed in config.control_seeds)]:
                    runs.append(Run(len(runs), spec, where, direction, control, seed))
    return runs


@dataclass(frozen=True)
class Planned:
    """A run's edit in a batch; `short`: where a control found fewer vectors than it needs."""

    run: Run
    edit: Edit
    short: Bool[np.ndarray, " prompt"]


def plan(
    scene: Scene,
    decomposition: Decomposition,
    runs: Sequence[Run],
    config: InterventionConfig,
    substitute: Substitute | None = None,
) -> Iterator[Planned]:
    """The edits of one batch, those aside that edit no prompt.

    Args:
        substitute: what takes the place of what an edge's writer wrote, for every prompt of the input or for all.
    """
    spec: Spec | None = None
    made: dict[tuple[str, str, int], Planned] = {}
    sending: Sending | None = None
    for run in runs:
        if run.spec is not spec:
            spec, made = run.spec, {}
            token = scene.tokens(spec.edges)
            sending = _sending(scene, decomposition, spec.edges, token, substitute) if (token >= 0).any() else None
        if sending is None:
            continue
        key = (run.where, run.control, run.seed)
        if key not in made:
            delta, short = _delta(scene, decomposition, run, sending, config)
            edit = _base_edit(scene, run, sending, delta, config)
            if run.control == "norm":
                signal, _ = _delta(scene, decomposition, replace(run, control="none"), sending, config)
                edit = matched(edit, _base_edit(scene, run, sending, signal, config))
            made[key] = Planned(run, edit, short)
        base, sign = made[key], SIGNS[run.direction]
        recomputed = base.edit.local and config.norm == "recomputed"
        edit = _renormalised(scene, base.edit, sign, config.flow) if recomputed else turned(base.edit, sign)
        yield Planned(run, edit, base.short)


def _sending(
    scene: Scene,
    decomposition: Decomposition,
    edges: Sequence[EdgeName],
    token: Int[np.ndarray, "edge prompt"],
    substitute: Substitute | None,
) -> Sending:
    written = np.asarray([scene.written(edge, at) for edge, at in zip(edges, token, strict=True)], np.float64)
    if substitute is not None:
        place = np.maximum(scene.batch.place, 0)
        stand_ins = [substitute[edge] for edge in edges]
        written = written - np.asarray([each[place if len(each) > 1 else 0 * place] for each in stand_ins])
    readings = [(edge.layer, edge.head, edge.side) for edge in edges]
    distinct = list(dict.fromkeys(readings))
    vectors = [
        np.asarray((decomposition.U if side == "dest" else decomposition.V)[layer, head])
        for layer, head, side in distinct
    ]
    return Sending(
        writer=_numbers([edge.writer for edge in edges]),
        vectors_of=np.asarray([distinct.index(each) for each in readings]),
        vectors=np.asarray(vectors, np.float64),
        token=token,
        members=scene.members(edges),
        written=written,
    )


def _numbers(names: Sequence[Hashable]) -> Int[np.ndarray, " name"]:
    """The same number where names are equal."""
    first = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.asarray([first[name] for name in names])


def _delta(
    scene: Scene, decomposition: Decomposition, run: Run, sending: Sending, config: InterventionConfig
) -> tuple[Float[np.ndarray, "edge prompt d_model"], Bool[np.ndarray, " prompt"]]:
    """δ of a run's edges, its own or a control's."""
    # What replaces y stands beside the same 1, so that the appended ones cancel.
    appended = float(config.method == "paper" and config.replacement == "zero")
    # What is edited in one place: a layer's output, or what of a reader's three the edges reach.
    edges = run.spec.edges
    sites = _numbers([(edge.reader, reach(edge, config.reads)) if run.where == "local" else "" for edge in edges])
    own = signals(sending, config.method, appended, sites)
    if run.control == "none":
        return own, np.zeros(own.shape[1], bool)
    rank = np.asarray(decomposition.within_rank())
    draws = [
        drawn(members, rank[edge.layer, edge.head], scene.batch.place, str(edge), run.seed)
        for members, edge in zip(sending.members, edges, strict=True)
    ]
    members = np.asarray([chosen for chosen, _ in draws])
    short = np.any([few for _, few in draws], axis=0)
    other = signals(replace(sending, members=members), config.method, appended, sites)
    return (scaled(other, own) if run.control == "norm" else other), short


def _base_edit(
    scene: Scene,
    run: Run,
    sending: Sending,
    delta: Float[np.ndarray, "edge prompt d_model"],
    config: InterventionConfig,
) -> Edit:
    """The edit that adds δ, or δ/s where a reader reads it; under a recomputed LayerNorm δ itself."""
    edges, token, local = run.spec.edges, sending.token, run.where == "local"
    if local and config.norm == "held":
        delta = delta / [scene.scale(edge.layer, at) for edge, at in zip(edges, token, strict=True)]
    # In `paper` a reader that is named starts from its clean input even where it is not edited.
    hold = (token != NOWHERE) | (config.method == "paper")
    before = scene.changed(edges, local, token).astype(np.float64)
    return make_edit(edges, local, token, delta, before, hold & local & (not config.flow), config.reads)


def _renormalised(scene: Scene, edit: Edit, sign: int, flow: bool) -> Edit:
    """The edit of x that a change of the residual makes when its LayerNorm is computed anew.

    Args:
        flow: whether that residual is the one that then reaches the reader, and not the clean run's.
    """
    delta = np.zeros_like(edit.delta)
    for entry, (layer, token) in enumerate(zip(edit.layer, edit.token, strict=True)):
        residual = scene.residual(int(layer), token) + sign * edit.delta[entry]
        scale = np.sqrt(np.mean(np.square(residual), axis=-1, keepdims=True) + scene.config.layer_norm_epsilon)
        delta[entry] = np.where(edit.edited[entry][:, None], residual / scale - edit.before[entry], 0)
    return replace(edit, delta=delta, resid=sign * edit.delta if flow else None)

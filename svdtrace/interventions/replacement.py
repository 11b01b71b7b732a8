"""What takes the place of a signal beside nothing: its mean over the prompts, or another prompt's."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from svdtrace.interventions.planning import Spec, Substitute
from svdtrace.interventions.scene import Scene
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.interventions.windows import NOWHERE
from svdtrace.prompts.edge_names import EdgeName


def substitutes(
    scenes: Iterable[Scene], specs: Sequence[Spec], config: InterventionConfig, n_prompts: int
) -> Substitute:
    """For every edge what stands in for what its writer wrote, over the prompts in which the edge's reader fires.

    Returns:
        The mean, [1 d_model]; or for every prompt of the input what was written in another one, [prompt d_model]: the
        next in a random circle, so that none stands in for itself unless it is alone.
    """
    edges = list(dict.fromkeys(edge for spec in specs for edge in spec.edges))
    written: dict[EdgeName, list[np.ndarray]] = {edge: [] for edge in edges}
    places: dict[EdgeName, list[np.ndarray]] = {edge: [] for edge in edges}
    for scene in scenes:
        for edge, token in zip(edges, scene.tokens(edges), strict=True):
            here = np.nonzero(token != NOWHERE)[0]
            written[edge].append(scene.written(edge, token)[here])
            places[edge].append(scene.batch.place[here])
    found = {}
    for edge in edges:
        values, place = np.concatenate(written[edge]), np.concatenate(places[edge])
        if config.replacement == "mean":
            found[edge] = values.mean(axis=0, keepdims=True) if len(values) else np.zeros((1, values.shape[1]))
            continue
        order = np.argsort(place)  # the input's order, whatever the batches
        values, place = values[order], place[order]
        circle = np.random.default_rng([config.seed, zlib.crc32(str(edge).encode())]).permutation(len(place))
        found[edge] = np.zeros((n_prompts, values.shape[1]))
        found[edge][place[circle]] = values[np.roll(circle, -1)]
    return found

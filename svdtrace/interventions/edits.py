"""A set of edges as data: which values change, at which layer and token, by how much (METHOD.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from svdtrace.interventions.windows import ATTENTION, MLP, NOWHERE, STEM
from svdtrace.prompts.edge_names import EdgeName, writer_layer

QUERY_KEY_VALUE = {"all": (True, True, True), "query": (True, False, False), "key": (False, True, False)}


@dataclass(frozen=True)
class Edit:
    """What one intervention changes in a batch: entries, each one value at one token of every prompt.

    `local`: whether it changes what heads read. `layer`, `part` (of Writes) or `head` (of Reads) say which value;
    `token` is NOWHERE where a prompt is not edited; `delta`: what is added to what is written, or to x; `before`: the
    clean value; `hold`: whether a reader starts from its clean input; `qkv`: which of its three a read edit reaches;
    `resid`: what is added to the residual that a reader reads, whatever flowed into it, `delta` being what that would
    change in the clean run.
    """

    local: bool
    layer: Int[np.ndarray, " entry"]
    which: Int[np.ndarray, " entry"]
    token: Int[np.ndarray, "entry prompt"]
    delta: Float[np.ndarray, "entry prompt d_model"]
    before: Float[np.ndarray, "entry prompt d_model"]
    hold: Bool[np.ndarray, "entry prompt"]
    qkv: Bool[np.ndarray, "entry qkv"]
    resid: Float[np.ndarray, "entry prompt d_model"] | None = None

    @property
    def edited(self) -> Bool[np.ndarray, "entry prompt"]:
        """Where there is an edit."""
        return self.token != NOWHERE

    @property
    def first_layer(self) -> int:
        """The first layer that must be run anew."""
        return max(0, int(self.layer[self.edited.any(axis=1)].min()))

    def window(self, last: Int[np.ndarray, " prompt"]) -> int:
        """How many tokens up to the last traced one must be run anew."""
        return int(np.where(self.edited, last - self.token + 1, 0).max(initial=0))


def site_of(edge: EdgeName, local: bool) -> tuple[int, int]:
    """What an edge's edit changes: layer and part of what its writer writes, or layer and head of its reader."""
    if local:
        return edge.layer, edge.head
    layer = writer_layer(edge.writer)
    return (STEM, ATTENTION) if layer < 0 else (layer, MLP if edge.writer.startswith("mlp") else ATTENTION)


def reach(edge: EdgeName, reads: str) -> tuple[bool, bool, bool]:
    """Which of query, key and value a local edit of an edge reaches."""
    side = {"dest": "query", "src": "key"}[edge.side]
    return QUERY_KEY_VALUE[side if reads == "side" else reads]


def make_edit(
    edges: Sequence[EdgeName],
    local: bool,
    token: Int[np.ndarray, "edge prompt"],
    delta: Float[np.ndarray, "edge prompt d_model"],
    before: Float[np.ndarray, "edge prompt d_model"],
    hold: Bool[np.ndarray, "edge prompt"],
    reads: str,
) -> Edit:
    """One entry for every value and token that a set of edges changes; what several edges add there is summed.

    Args:
        token: NOWHERE where an edge is absent from a prompt.
        delta: what each edge adds; before: the clean value that it is added to.
        hold: where readers start from their clean input.
    """
    sites = np.asarray([site_of(edge, local) for edge in edges])
    qkv = np.asarray([reach(edge, reads) for edge in edges])
    same_site = (sites[:, None] == sites).all(axis=-1)
    if local:
        same_site &= (qkv[:, None] == qkv).all(axis=-1)
    present = token != NOWHERE
    same = same_site[..., None] & (token[:, None] == token) & present[:, None] & present
    leads = present & ~np.any(same & (np.arange(len(edges))[:, None] > np.arange(len(edges)))[..., None], axis=1)
    total = np.einsum("efp,fpd->epd", same, delta) if len(edges) > 1 else delta
    kept = np.nonzero(leads.any(axis=1) | hold.any(axis=1))[0]
    return Edit(
        local=local,
        layer=sites[kept, 0],
        which=sites[kept, 1],
        token=np.where(leads, token, NOWHERE)[kept],
        delta=np.where(leads[..., None], total, 0)[kept],
        before=before[kept],
        hold=hold[kept],
        qkv=qkv[kept],
    )


def turned(edit: Edit, sign: int) -> Edit:
    """The edit with its changes multiplied by a sign: −1 takes signals away, 1 adds them once more."""
    return replace(edit, delta=sign * edit.delta)


def matched(edit: Edit, own: Edit) -> Edit:
    """A control's edit, each of its entries scaled to the norm of the signals' own there.

    What several edges add at one place is summed, and random vectors do not add up as signals do: scaling each edge's
    alone would leave a set's control smaller than its signals.
    """
    size, wanted = (np.linalg.norm(each.delta, axis=-1, keepdims=True) for each in (edit, own))
    return replace(edit, delta=edit.delta * np.divide(wanted, size, out=np.zeros_like(size), where=size > 0))


def likeness(edit: Edit) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
    """Norm ratio and cosine of what an edit changes, after beside before, where nothing else changes it first."""
    after = edit.before + edit.delta
    return compared(edit, (after * after).sum(axis=-1), (after * edit.before).sum(axis=-1))


def compared(
    edit: Edit, square: Float[np.ndarray, "entry prompt"], product: Float[np.ndarray, "entry prompt"]
) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
    """Norm ratio and cosine, averaged over the places edited in a prompt; 1 where there are none.

    Args:
        square, product: of the edited values, y·y and y·before.
    """
    before = np.linalg.norm(edit.before, axis=-1)
    after = np.sqrt(square)
    with np.errstate(divide="ignore", invalid="ignore"):
        measures = after / before, product / (after * before)
    count = edit.edited.sum(axis=0)
    ratio, cosine = (
        np.where(count > 0, np.where(edit.edited, each, 0).sum(axis=0) / np.maximum(count, 1), 1) for each in measures
    )
    return ratio, cosine

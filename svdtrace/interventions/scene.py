"""One batch before any edit, on the host: what writers wrote, what readers read, where edges stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from gpt2jax.config import GPT2Config
from gpt2jax.params import Model
from svdtrace.interventions.clean import Aligned, Clean
from svdtrace.interventions.edits import site_of
from svdtrace.interventions.pairs import Pairs, firing_of
from svdtrace.interventions.windows import MLP, NOWHERE, STEM
from svdtrace.prompts.edge_names import EdgeName, writer_layer
from svdtrace.tracing.batching import Batch


@dataclass(frozen=True)
class Scene:
    """A batch, its clean run and the firings that the edges name."""

    model: Model
    batch: Batch
    clean: Clean
    aligned: Aligned
    pairs: Pairs

    @property
    def config(self) -> GPT2Config:
        """The model's."""
        return self.model.config

    @cached_property
    def firing(self) -> dict[tuple[int, int, str, str], int]:
        """The row in `pairs` of every firing named."""
        return {name: row for row, name in enumerate(self.pairs.names)}

    @cached_property
    def reading(self) -> Float[np.ndarray, "qkv layer head d_model d_head"]:
        """What queries, keys and values are read with."""
        blocks = self.model.params.blocks
        return np.stack([np.asarray(each) for each in (blocks.W_Q, blocks.W_K, blocks.W_V)])

    @cached_property
    def writing(self) -> Float[np.ndarray, "layer head d_head d_model"]:
        """What heads write with."""
        return np.asarray(self.model.params.blocks.W_O)

    def rows(self, edges: Sequence[EdgeName]) -> Int[np.ndarray, " edge"]:
        """The edges' firings, as rows of `pairs`."""
        return np.asarray([self.firing[firing_of(edge)] for edge in edges])

    def tokens(self, edges: Sequence[EdgeName]) -> Int[np.ndarray, "edge prompt"]:
        """Where the writers of edges wrote; NOWHERE where the reader does not fire."""
        rows = self.rows(edges)
        dest = np.asarray([edge.side == "dest" for edge in edges])[:, None]
        token = np.where(dest, self.pairs.dest[rows], self.pairs.src[rows])
        return np.where(self.pairs.fires[rows], token, NOWHERE)

    def members(self, edges: Sequence[EdgeName]) -> Bool[np.ndarray, "edge prompt sv"]:
        """S of the edges' firings, empty where the reader does not fire."""
        return self.pairs.members[self.rows(edges)]

    def written(self, edge: EdgeName, token: Int[np.ndarray, " prompt"]) -> Float[np.ndarray, "prompt d_model"]:
        """y: what the writer of an edge wrote at a token of each prompt; any where the token is NOWHERE."""
        prompt, layer = np.arange(len(token)), writer_layer(edge.writer)
        if edge.writer in ("embed", "pos"):
            return self._host(edge.writer)[prompt, token]
        if edge.writer.startswith("mlp"):
            return self._host("mlp_out")[layer, prompt, token]
        head = int(edge.writer.partition(".")[2])
        return self._host("z")[layer, prompt, token, head] @ self.writing[layer, head]

    def changed(
        self, edges: Sequence[EdgeName], local: bool, token: Int[np.ndarray, "edge prompt"]
    ) -> Float[np.ndarray, "edge prompt d_model"]:
        """The clean values that edits change: what the writers' layers write, or x of the readers."""
        prompt = np.arange(token.shape[1])
        found = []
        for edge, at in zip(edges, token, strict=True):
            layer, part = site_of(edge, local)
            if local:
                value = self.residual(layer, at) / self.scale(layer, at)
            elif layer == STEM:
                value = self._host("resid_pre")[0, prompt, at]
            else:
                value = self._host("mlp_out" if part == MLP else "attn_out")[layer, prompt, at]
            found.append(value)
        return np.asarray(found)

    def residual(self, layer: int, token: Int[np.ndarray, " prompt"]) -> Float[np.ndarray, "prompt d_model"]:
        """What a layer's first LayerNorm reads, centred."""
        value = self._host("resid_pre")[layer, np.arange(len(token)), token]
        return value - value.mean(axis=-1, keepdims=True)

    def scale(self, layer: int, token: Int[np.ndarray, " prompt"]) -> Float[np.ndarray, "prompt 1"]:
        """The clean scale s of that LayerNorm."""
        return self._host("scale")[layer, np.arange(len(token)), token]

    def _host(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = np.asarray(getattr(self.clean, name))
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {}

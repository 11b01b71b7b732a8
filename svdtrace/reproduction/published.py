"""What the paper's authors published, as it comes with the package (MIT licence, beside the data)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq

from gpt2jax.config import GPT2Config
from svdtrace.errors import ModelError
from svdtrace.prompts.prompt import Prompt

FOLDER = Path(__file__).parent / "data"
GPT2_SMALL = {"n_layers": 12, "n_heads": 12, "d_model": 768, "d_vocab": 50257}


@dataclass(frozen=True)
class Published:
    """Numbers, graph and effects.

    `numbers`: see `data/paper.json`; `graph` in the published form; `interventions`: for every set of edges, place
    and prompt, the logit difference before and after, norm ratio and cosine; `prompts`: the file of the 256 prompts;
    `shape`: of the model that all this holds for, and `tokens` of the prompts (`None`: of any).
    """

    numbers: Mapping[str, Any]
    graph: nx.DiGraph
    interventions: pa.Table
    prompts: Path
    shape: Mapping[str, int]
    tokens: tuple[tuple[int, ...], ...] | None = None

    def applies_to(self, config: GPT2Config) -> bool:
        """Whether a model has the shape that the numbers are of."""
        return all(getattr(config, name) == size for name, size in self.shape.items())

    def is_of(self, prompts: Sequence[Prompt]) -> bool:
        """Whether these are the prompts that the numbers are of, in their order."""
        return self.tokens is None or self.tokens == tuple(prompt.tokens for prompt in prompts)


def read_published(folder: Path = FOLDER) -> Published:
    """Read the published data.

    Raises:
        ModelError: this installation lacks them.
    """
    try:
        with gzip.open(folder / "graph.graphml.gz") as file:
            graph = nx.read_graphml(file)
        with gzip.open(folder / "prompts.jsonl.gz", "rt", encoding="utf-8") as lines:
            tokens = tuple(tuple(json.loads(line)["tokens"]) for line in lines)
        return Published(
            numbers=json.loads((folder / "paper.json").read_text(encoding="utf-8")),
            graph=graph,
            interventions=pq.ParquetFile(folder / "interventions.parquet").read(),
            prompts=folder / "prompts.jsonl.gz",
            shape=GPT2_SMALL,
            tokens=tokens,
        )
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename}: the published data are not there; install svdtrace anew") from None

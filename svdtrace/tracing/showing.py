"""How a trace shows itself: cards, pictures and data frames, each imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gpt2jax.fingerprint import fingerprint
from gpt2jax.forward import forward
from gpt2jax.notebook import heat_map, table
from svdtrace.errors import ModelError, PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpt2jax.params import Model
    from svdtrace.explaining.asking import Why
    from svdtrace.pictures.inline import Picture
    from svdtrace.results.in_parts import Tables

STRONGEST = 5


class Showing:
    """What `svdtrace.tracing.trace.Trace` is looked at with."""

    prompts: pa.Table
    firings: pa.Table
    edges: pa.Table
    manifest: dict[str, Any]
    model: Model | None

    if TYPE_CHECKING:

        def parts(self) -> Iterator[Tables]:
            """See `svdtrace.tracing.trace.Trace.parts`."""
            ...

    def __repr__(self) -> str:
        rows = (self.prompts.num_rows, self.firings.num_rows, self.edges.num_rows)
        return "Trace({:,} prompts, {:,} firings, {:,} edges)".format(*rows)

    def why(
        self,
        prompt: int = 0,
        edge: str | None = None,
        firing: str | None = None,
        interventions: Any = None,
    ) -> Why:
        """Why a head attended there, in one prompt; `print` it, or let a notebook show it.

        Args:
            prompt: its 0-based place in the input.
            edge: `1.5:2.6@end:IO/src`; or firing: `2.6@end:IO`, or `2.6@end` for where it attends most.
            interventions: of the same prompts (`svdtrace.intervene`, or its table), for what taking edges away did.

        Raises:
            PromptError, EdgeError: see `svdtrace.explaining.asking.why`.
        """
        from svdtrace.explaining.asking import why

        return why(self, prompt, edge, firing, getattr(interventions, "table", interventions))

    def plot(self, strongest: int = 40) -> Picture:
        """The circuit in layers, as a picture that a notebook shows."""
        from svdtrace.pictures.inline import circuit_inline

        return circuit_inline(self, strongest)

    def firings_frame(self) -> Any:
        """Firings as a data frame of pandas or polars, with heads' names and tokens' texts.

        Raises:
            FrameError: neither is installed.
        """
        from svdtrace.explaining.frames import firings_frame

        return firings_frame(self.prompts, self.firings)

    def edges_frame(self) -> Any:
        """Edges likewise.

        Raises:
            FrameError: neither pandas nor polars is installed.
        """
        from svdtrace.explaining.frames import edges_frame

        return edges_frame(self.prompts, self.edges)

    def head_pattern(self, prompt: int, layer: int, head: int, model: Model | None = None) -> np.ndarray:
        """A head's attention probabilities over one prompt, [dest src], from a pass of the model.

        Args:
            model: the traced one; a trace that was just made has it.

        Raises:
            PromptError: no such prompt.
            ModelError: no such head, no model at hand, or another than the traced one.
        """
        tokens = np.asarray([self._prompt(prompt)["tokens"]], np.int32)
        model = self._traced_model(model)
        shape = model.config
        if not (0 <= layer < shape.n_layers and 0 <= head < shape.n_heads):
            raise ModelError(
                f"the model has no head {layer}.{head}; layers go from 0 to {shape.n_layers - 1}, heads from 0 to "
                f"{shape.n_heads - 1}"
            )
        tap = f"blocks.{layer}.attn.hook_pattern"
        return np.asarray(forward(model, tokens, taps=tap).taps[tap])[0, head]

    def plot_pattern(self, prompt: int, layer: int, head: int, model: Model | None = None) -> Picture:
        """`head_pattern` as a picture, tokens on both axes.

        Raises:
            PromptError, ModelError: see `head_pattern`.
        """
        from svdtrace.pictures.inline import pattern_inline

        row, pattern = self._prompt(prompt), self.head_pattern(prompt, layer, head, model)
        roles = {at: role for role, at in row["roles"] or []}
        return pattern_inline(pattern, row["strings"], roles, f"Head {layer}.{head}, prompt {prompt}")

    def _prompt(self, prompt: int) -> dict[str, Any]:
        numbers = self.prompts["prompt"].to_pylist()
        if prompt not in numbers:
            raise PromptError(f"prompt {prompt} is not in the trace; it has {len(numbers):,}")
        return self.prompts.slice(numbers.index(prompt), 1).to_pylist()[0]

    def _traced_model(self, model: Model | None) -> Model:
        if model is None:
            if self.model is None:
                raise ModelError("the trace was read from a folder and holds no model; give model=gpt2jax.load(…)")
            return self.model
        traced = self.manifest.get("model", {}).get("fingerprint")
        if traced is not None and fingerprint(model) != traced:
            raise ModelError("this is another model than the traced one; load the traced one")
        return model

    def _repr_html_(self) -> str:
        config, model = self.manifest.get("config", {}), self.manifest.get("model", {})
        firings, edges = self.firings, self.edges
        size = firings["size"].to_numpy()
        rows = [
            ("prompts", self.prompts.num_rows),
            ("firings", firings.num_rows),
            ("edges", edges.num_rows),
            ("mean |S|", float(size.mean()) if len(size) else None),
            ("method", config.get("method")),
            ("threshold", config.get("threshold")),
            ("roots", config.get("roots")),
        ]
        counts = np.zeros((model.get("n_layers", 1), model.get("n_heads", 1)))
        np.add.at(counts, (firings["layer"].to_numpy(), firings["head"].to_numpy()), 1)
        largest = np.argsort(-edges["weight"].to_numpy(), kind="stable")[:STRONGEST]
        strongest = [
            (row["prompt"], row["writer"], f"{row['layer']}.{row['head']}", row["side"], row["role"], row["weight"])
            for row in edges.take(pa.array(largest)).to_pylist()
        ]
        columns = ("prompt", "writer", "reader", "side", "token's role", "weight")
        return (
            f'<div style="display:flex;flex-wrap:wrap;gap:2em">{table(("trace", ""), rows)}'
            f"<div>{heat_map(counts, 'Firings', 'layer', 'head')}</div>"
            f"<div>{table(columns, strongest, 'Largest edges; trace.why(prompt, edge=…) tells of one')}</div></div>"
        )

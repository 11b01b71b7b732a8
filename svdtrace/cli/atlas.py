"""`svdtrace atlas`: what a model's heads can pass to each other, read off the weights alone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flat, Folder, ModelChoice, Voice

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.atlas import Atlas

STRONGEST = 4
PARTS = (("heads", "embed", "unembed"), ("heads", "embed"), ("heads", "positions"), ("heads",))
"""What is loaded: the first of these that the folder holds."""


@dataclass(frozen=True)
class Options:
    """Read off the weights alone what every head can pass to every later one; write tables, pictures and a page.

    Needs only the heads' weights, not a whole model, and no prompts.

    The bundled model's heads: `svdtrace atlas`

    Another model's, and how well its weights predict a trace: `svdtrace atlas --model FOLDER --trace trace --out heads`
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    trace: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of a trace or a sweep of this model, whose edges the weights are held against."""
    token_vectors: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Of how many singular vectors of each matrix the tokens are listed, where the model holds token embeddings."""
    out: Folder = Path("atlas")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Make the atlas and write it; print its strongest pairs."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.atlas import write_atlas
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.errors import OptionError
    from svdtrace.folders.reading import opened
    from svdtrace.output.seconds import count_seconds

    if options.token_vectors < 0:
        raise OptionError(f"--token-vectors is {options.token_vectors}; give 0 or more")
    trace = None if options.trace is None else opened(options.trace)
    model, mark = load_heads(options)
    with progress("layers", options.voice) as advance:
        found = write_atlas(
            model, options.out, trace=trace, token_vectors=options.token_vectors, progress=advance, mark=mark
        )
    seconds = count_seconds(options.out, began)
    content = {"command": "atlas", "out": str(options.out), **summary(found), "seconds": seconds}
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        _show(console(), content)
    return 0


def load_heads(options: Options) -> tuple[gpt2jax.Model, str | None]:
    """What of the model an atlas reads, and the fingerprint that a trace has of it; `None` where it is not whole."""
    from gpt2jax.errors import MissingTensorsError
    from gpt2jax.hub import find_model
    from gpt2jax.stored_fingerprint import stored_fingerprint
    from svdtrace.cli.loading import load_model, source_of

    mark = None
    with suppress(MissingTensorsError):
        folder = find_model(source_of(options.inputs.model), options.inputs.revision).folder
        mark = stored_fingerprint(folder).fingerprint
    for parts in PARTS[:-1]:
        with suppress(MissingTensorsError):
            return load_model(options.inputs, options.voice, parts), mark
    return load_model(options.inputs, options.voice, PARTS[-1]), mark


def summary(found: Atlas) -> dict[str, Any]:
    """What the closing tables say, as plain values."""
    rows = found.tables["composition"].filter(_ranked()).to_pylist()
    strongest = []
    for side in ("q", "k", "v"):
        mine = [row for row in rows if row["side"] == side]
        first = [each for name in ("score", "beyond") for each in sorted(mine, key=lambda row: -row[name])[:STRONGEST]]
        strongest += [_pair(row) for place, row in enumerate(first) if row not in first[:place]]
    facts = {name: found.manifest[name] for name in ("model", "counts", "near")}
    facts["strongest"] = strongest
    if "position_directions" in found.manifest:
        facts["position_directions"] = found.manifest["position_directions"]
    if "prediction" in found.tables:
        whole = [row for row in found.tables["prediction"].to_pylist() if row["layer"] is None]
        facts["prediction"] = [{name: row[name] for name in row if name not in ("layer", "head")} for row in whole]
    return facts


def _ranked() -> Any:
    """Pairs that may be among the strongest: the reader's first few."""
    import pyarrow.compute as pc

    return (pc.field("rank") <= STRONGEST) | (pc.field("beyond_rank") <= STRONGEST)


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "side": row["side"],
        "writer": row["writer"],
        "reader": f"{row['layer']}.{row['head']}",
        **{name: round(row[name], 4) for name in ("score", "null_mean", "null_sd", "beyond")},
    }


def _show(terminal: Any, content: dict[str, Any]) -> None:
    from svdtrace.cli.terminal import counted, table
    from svdtrace.output.seconds import spent

    columns = ("side", "writer", "reader", "score", "by chance", "beyond medians")
    rows = [
        (
            each["side"],
            each["writer"],
            each["reader"],
            f"{each['score']:.3f}",
            f"{each['null_mean']:.3f} ± {each['null_sd']:.4f}",
            f"{each['beyond']:+.3f}",
        )
        for each in content["strongest"]
    ]
    many = counted(content["counts"]["composition"] // 3, "pair")
    title = f"Strongest by score and beyond medians, of {many} of a head and a later one"
    terminal.print(table(title, columns, rows, left=columns[:3]))
    if "prediction" in content:
        names = ("measure", "side", "edges", "median_rank", "auc", "auc_edges")
        said = [tuple(_shown(row[name]) for name in names) for row in content["prediction"]]
        title = "How often the weights alone rank a writer that was chosen before another (0.50: chance, 1: always)"
        columns = ("by", "side", "edges", "median rank", "how often", "over edges")
        terminal.print(table(title, columns, said, left=("by", "side")))
    terminal.say(f"{spent(content['seconds'])}; written to {content['out']}, open atlas.html there in a browser")


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

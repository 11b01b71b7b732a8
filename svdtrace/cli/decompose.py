"""`svdtrace decompose`: the singular values and vectors of every head's query-key matrix, as a file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from svdtrace.cli.options import ConfigChoice, Flat, Folder, ModelChoice, Voice
from svdtrace.config import Processing, TraceConfig

if TYPE_CHECKING:
    import numpy as np

    import gpt2jax

FILE = "decomposition.safetensors"


@dataclass(frozen=True)
class Options:
    """Decompose every head's query-key matrix into singular values and vectors.

    Needs only the heads' weights, not a whole model.

    The bundled model's heads: `svdtrace decompose`

    Another model's: `svdtrace decompose --model FOLDER --out heads`
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    out: Folder = Path("decompose")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    file: Annotated[ConfigChoice, Flat] = field(default_factory=ConfigChoice)
    processing: Processing = "folded"
    """Weights with LayerNorm folded in, as the paper has them, or raw."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)

    @classmethod
    def configured(cls, settings: TraceConfig) -> Options:
        """The defaults, with settings from a file."""
        return cls(processing=settings.processing)


def run(options: Options) -> int:
    """Decompose and write; print a table with one line a layer."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    import jax

    from gpt2jax.fingerprint import fingerprint
    from gpt2jax.fold import fold
    from svdtrace.cli.terminal import print_json
    from svdtrace.method.decomposition import decompose
    from svdtrace.output.seconds import count_seconds
    from svdtrace.output.writing import replaced_folder, write_manifest
    from svdtrace.results import decompositions
    from svdtrace.results.versions import versions
    from svdtrace.tracing.manifest import origin_facts

    loaded = _load(options)
    mark = fingerprint(loaded)
    model = fold(loaded) if options.processing == "folded" else loaded
    start = time.perf_counter()
    found = jax.block_until_ready(decompose(model))
    seconds = round(time.perf_counter() - start, 3)
    layers = [_of_layer(layer, S) for layer, S in enumerate(jax.device_get(found.S))]
    config = model.config
    with replaced_folder(options.out) as staging:
        decompositions.write(staging / FILE, found, mark)
        shape = {name: getattr(config, name) for name in ("n_layers", "n_heads", "d_model", "d_head")}
        described = {"fingerprint": mark, **origin_facts(model), "processing": model.processing, **shape}
        write_manifest(
            staging, {**versions(), "command": "decompose", "model": described, "seconds": {"decompose": seconds}}
        )
    seconds = count_seconds(options.out, began)
    content = {
        "command": "decompose",
        "out": str(options.out),
        "model": described,
        "layers": layers,
        "seconds": seconds,
    }
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        _tell(content, options)
    return 0


def _tell(content: dict[str, Any], options: Options) -> None:
    from svdtrace.cli.terminal import console, counted, table
    from svdtrace.output.seconds import spent

    shape = content["model"]
    of_each = counted(shape["d_head"], "singular value")
    title = f"{counted(shape['n_layers'], 'layer')} of {counted(shape['n_heads'], 'head')}, {of_each} each"
    names = ("layer", "largest", "of_head", "median_largest", "effective_rank")
    rows = [tuple(each[name] for name in names) for each in content["layers"]]
    terminal = console()
    terminal.print(table(title, ("layer", "largest σ", "in head", "median largest σ", "mean effective rank"), rows))
    terminal.say(
        "Effective rank: how many equal singular values would be as spread as a head's are (Roy & Vetterli 2007); "
        "0 for a head that is zero"
    )
    terminal.say(f"{spent(content['seconds'])}; written to {options.out / FILE}")


def _load(options: Options) -> gpt2jax.Model:
    """The whole model, whose fingerprint a trace has too; where the folder does not hold it, its heads alone."""
    from gpt2jax.errors import MissingTensorsError
    from svdtrace.cli.loading import load_model

    try:
        return load_model(options.inputs, options.voice)
    except MissingTensorsError:
        return load_model(options.inputs, options.voice, parts="heads")


def _of_layer(layer: int, S: np.ndarray) -> dict[str, Any]:
    """A layer's singular values [head sv] in a few numbers.

    The effective rank is exp of the entropy of σ / Σσ (Roy & Vetterli 2007); of a head that is zero it is 0.
    """
    import numpy as np

    sums = S.sum(axis=-1, keepdims=True)
    p = np.divide(S, sums, out=np.zeros_like(S), where=sums > 0)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)
    return {
        "layer": layer,
        "largest": round(float(S[:, 0].max()), 3),
        "of_head": f"{layer}.{int(S[:, 0].argmax())}",
        "median_largest": round(float(np.median(S[:, 0])), 3),
        "effective_rank": round(float(np.where(sums[:, 0] > 0, np.exp(entropy), 0).mean()), 2),
    }

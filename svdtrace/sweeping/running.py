"""A sweep, from a stream of records to a folder of parts.

    svdtrace.sweep(model, "prompts.jsonl", "out", svdtrace.TraceConfig(tau=0.9))

Killed at any moment and started again in the same way, it goes on after the last whole part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.errors import OutputError, SettingError, TraceFolderError
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.prompts.listed import one_by_one
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits
from svdtrace.prompts.sources import Placed, record_of, records
from svdtrace.results import decompositions
from svdtrace.surroundings.paths import path_of
from svdtrace.sweeping.folder import (
    DECOMPOSITION,
    begun,
    free_folder,
    refuse_another,
    refuse_links,
)
from svdtrace.sweeping.processes import Processes
from svdtrace.sweeping.run import Run, Sweep
from svdtrace.sweeping.sizes import PART_SIZE, part_tokens
from svdtrace.sweeping.telling import Progress, Start, Told, silent, telling
from svdtrace.sweeping.windows import Cut, built, first_of, windows
from svdtrace.tracing.batching import Plan, streaming_plan
from svdtrace.tracing.devices import computing_device, computing_devices, precision
from svdtrace.tracing.output_roots import parse_targets
from svdtrace.tracing.prepare import Prepared, prepare, spread
from svdtrace.tracing.roots import parse_roots
from svdtrace.tracing.sharding import device_mesh
from svdtrace.tracing.trace import Settled, rounding


def sweep(
    model: Model,
    prompts: str | Path | Iterable[Prompt],
    folder: str | Path,
    config: TraceConfig | None = None,
    *,
    part_size: int | None = None,
    strict: bool = False,
    bos: bool = False,
    seed: int = 0,
    started: Callable[[Start], None] | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Trace a stream of prompts into a folder, part by part.

    All that can be checked is checked before the folder is made or touched: what is refused leaves it as it was, and so
    does a sweep that has ended already.

    Args:
        model: raw or folded, see `svdtrace.trace`.
        prompts: a source as `svdtrace.prompts.read` takes it, or prompts one by one.
        folder: new, empty, or that of this same sweep, which then goes on.
        config: what decides every number, by default `TraceConfig()`. With dtype bfloat16 the first part says what that
            changes, and the manifest repeats it as `rounding`.
        part_size: prompts a part. By default as many as take a third of a minute, at most 2,048; what one sweep began
            with is in its manifest, and taken when it goes on. Ids are checked to be unique within a part.
        strict: stop at the first prompt that cannot be used, instead of setting it aside in `rejected.parquet`.
        bos, seed: see `svdtrace.prompts.read`.
        started: called once, when all is checked.
        progress: called after every batch and after every part; once, too, for the parts that are there. True shows a
            bar, in a terminal and in a notebook.
        mesh: see `svdtrace.trace`.

    Returns:
        The finished sweep.

    Raises:
        OutputError: the folder holds another sweep, or other files, or is in use, or cannot be written.
        PromptError: the source cannot be read, no prompt of it can be used, or (`strict`) one cannot.
        SettingError, RootError, ModelError: what is asked does not fit the model or the first part's prompts, or the
            activations of no prompt are finite.
    """
    if part_size is not None and part_size < 1:
        raise SettingError(f"part_size is {part_size}; give 1 or more")
    config, together = config or TraceConfig(), Processes.here()
    limits = Limits.of(model.tokenizer, model.config, bos)
    source = str(prompts) if isinstance(prompts, str | Path) else None
    stream = built(_placed(source, prompts, model, seed, limits.longest), limits, strict=strict)
    with precision(config), telling(progress) as show:
        target, manifest = _folder(folder, together)
        mark = fingerprint(model)
        if manifest is not None:
            asked = {"config": config.to_dict(), "fingerprint": mark, "part_size": part_size}
            refuse_another(manifest, asked, folder)
        size = part_size or (PART_SIZE if manifest is None else manifest["sweep"]["part_size"])
        first = first_of(stream, size, source or "prompts")
        usable = [each.prompt for each in first if each.prompt is not None]
        prepared = prepare(model, config, partial(_decomposition, folder=target, mark=mark))
        prepared = replace(spread(prepared, mesh or device_mesh(computing_devices(config))), fingerprint=mark)
        settled = _settled(prepared, usable, config, manifest)
        tokens = None if manifest is None else manifest["sweep"].get("part_tokens")
        if manifest is None and part_size is None:
            tokens = part_tokens(prepared, usable, config, settled, every=len(first) < size)
        cut = Cut(size, tokens, settled.plan)
        changed = partial(rounding, model=model, config=config, settled=settled, mesh=mesh)
        run = Run(target, prepared, config, settled, cut, source, together, changed, manifest)
        told = Told(started or silent, show)
        return (run.lead if together.leads else run.follow)(windows(chain(first, stream), cut, strict=strict), told)


def _folder(folder: str | Path, together: Processes) -> tuple[Path, dict[str, Any] | None]:
    """Where to sweep, and the manifest of the sweep that was begun there; for processes that follow, by the first.

    Raises:
        OutputError, TraceFolderError: see `svdtrace.sweeping.folder`; the leading process's folder is not seen here.
    """
    if together.leads:
        target = free_folder(folder)
        manifest = begun(target)
        refuse_links(target, manifest)
        return target, manifest
    together.wait("begun")
    target = path_of(folder).resolve()
    manifest = begun(target)
    if manifest is None:
        raise OutputError(
            f"{folder}: the sweep is not there; let all processes write into one folder that they all see"
        )
    refuse_links(target, manifest)
    return target, manifest


def _placed(source: str | None, prompts: Any, model: Model, seed: int, longest: int | None) -> Iterable[Placed]:
    if source is not None:
        return records(source, model.tokenizer, seed, longest)
    return ((f"prompt {place}", record_of(prompt)) for place, prompt in enumerate(one_by_one(prompts)))


def _decomposition(model: Model, folder: Path, mark: str) -> Decomposition:
    """The decomposition that the sweep began with: another library or machine may round its vectors otherwise."""
    path = folder / DECOMPOSITION
    if path.exists():
        try:
            found, of_model = decompositions.read(path)
        except TraceFolderError:
            raise OutputError(
                f"{path}: is damaged, or of another version; end the sweep with the version that began it, or name "
                "another folder with --out"
            ) from None
        if of_model == mark:
            return found
    return decompose(model)


def _settled(
    prepared: Prepared, first: Sequence[Prompt], config: TraceConfig, manifest: dict[str, Any] | None
) -> Settled:
    shape = prepared.model.config
    if manifest is not None:
        noted = manifest["sweep"]
        plan = Plan(tuple(noted["bucket_edges"]), tuple(noted["batch_sizes"])).over(prepared.devices)
    else:
        lengths = [len(prompt.tokens) for prompt in first]
        kind = computing_device(config).platform
        plan = streaming_plan(lengths, shape.n_ctx, config.batch_size, shape.n_heads, kind, prepared.devices)
    parse_targets(config.targets, prepared.model.tokenizer, shape)
    return Settled(roots=parse_roots(config.roots, shape, first), plan=plan)

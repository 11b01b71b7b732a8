"""`circuit`: how faithful and complete a trace's circuit is, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2jax import notebook
from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.errors import ModelError, SettingError, TraceFolderError
from svdtrace.faithfulness import tables
from svdtrace.faithfulness.clean import DirectEffects, clean_run, finite_places
from svdtrace.faithfulness.editing import MEASURES, SUFFIXES
from svdtrace.faithfulness.given import Candidates, Given, candidates, given
from svdtrace.faithfulness.measured import CLEAN, Measured, Settings, measure
from svdtrace.faithfulness.measuring import attribution_scores
from svdtrace.faithfulness.output_heads import head_ablations
from svdtrace.faithfulness.summary import default_measure, heads_summary, summary
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import precision
from svdtrace.tracing.finite import NAMED, prompt_name, refuse_nothing_finite
from svdtrace.tracing.manifest import device_facts, model_facts
from svdtrace.tracing.pipeline import all_writers
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import WriterOrder
from svdtrace.tracing.trace import Trace, prepare_cached

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Circuit:
    """How faithful a circuit is.

    The tables are those that `svdtrace.faithfulness.tables` lists; `manifest` says how they came about and sums them
    up, by the answer's log-probability under `log_probability`.
    """

    faithfulness: pa.Table
    agreement: pa.Table
    output_heads: pa.Table
    faithfulness_log_probability: pa.Table
    agreement_log_probability: pa.Table
    manifest: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"Circuit({self.manifest['counts']['edges']:,} edges, kept and removed)"

    def _repr_html_(self) -> str:
        name = self.manifest["default_measure"]
        measure = self.manifest if name == "logit_difference" else self.manifest[name]
        title = f"{self!r}, by the {name.replace('_', ' ')}"
        if measure["divisor"]["why"] is not None:
            return notebook.table(("why no share is shown",), [(measure["divisor"]["why"],)], title)
        rows = [
            (edges, kind, each["mean"], each["low"], each["high"])
            for kind, found in measure["areas"].items()
            for edges, each in found.items()
        ]
        columns = ("edges taken", "area", "mean", "95 % from", "to")
        return notebook.table(columns, rows, title)

    def save(self, folder: str | Path) -> None:
        """Write tables, figures and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.faithfulness.folder import write

        tables = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "manifest"}
        write(tables, self.manifest, folder)


def circuit(
    model: Model, trace: Trace, settings: Settings | None = None, *, progress: Progress | bool | None = None
) -> Circuit:
    """Measure how much of the logit difference a trace's circuit carries; `svdtrace.faithfulness` says what that means.

    Args:
        model: the one that was traced.
        trace: on prompts of which some have answer and distractor.
        settings: how much is measured, by default `Settings()`.
        progress: called with sets measured and sets in all. True shows a bar, in a terminal and in a notebook.

    Raises:
        ModelError: another model than the traced one, or the activations of no prompt are finite.
        PromptError: no prompt with answer and distractor.
        TraceFolderError: the trace holds no edges.
        SettingError: its edges stand at other keys than the source.
    """
    settings, clock = settings or Settings(), Clock()
    config = replace(TraceConfig.from_dict(trace.manifest["config"]), batch_size="auto")
    if config.keys == "all":
        raise SettingError(
            "the trace has edges of keys other than the source, and a circuit keeps and removes signals at the source; "
            "trace with keys summed or own"
        )
    check_model(model, trace)
    source = given(trace.prompts, trace.firings, trace.edges)
    with precision(config), progressing(progress, "measuring sets of edges") as told:
        with clock("prepare"):
            prepared = prepare_cached(model, config)
            source, unusable = _finite(prepared, config, source, trace)
        order = WriterOrder.of(prepared.model.config.n_layers, prepared.model.config.n_heads)
        listed = _listed(source, config, order)
        with clock("clean run"):
            bench, direct = clean_run(prepared, config, source)
        with clock("attribution patching"):
            attribution = attribution_scores(bench, listed.places())
        with clock("edited runs"):
            measured = measure(bench, listed, attribution, settings, told)
        with clock("ablated heads"):
            ablated = head_ablations(bench)
    found = _results(listed, order, source, attribution, measured, direct, measured.ends[CLEAN] - ablated)
    manifest = {**_manifest(prepared, trace, source, listed, config, settings), "not_finite": unusable}
    return Circuit(**found.pop("tables"), manifest={**manifest, **found, "seconds": clock.rounded()})


def _finite(prepared: Prepared, config: TraceConfig, source: Given, trace: Trace) -> tuple[Given, dict[str, Any]]:
    """The prompts whose activations are finite, and what is said of the others, which a trace of this version lacks."""
    kept = finite_places(prepared, config, source)
    lost = np.setdiff1d(source.places, kept)
    names = [
        prompt_name(source.prompts[at], int(source.places[at])) for at in np.flatnonzero(np.isin(source.places, lost))
    ]
    said = {"prompts": len(names), "named": names[:NAMED]}
    refuse_nothing_finite(said, len(source.prompts))
    if not len(lost):
        return source, said
    rest = trace.prompts.filter(pa.array(~np.isin(trace.prompts["prompt"].to_numpy(), lost)))
    return given(rest, trace.firings, trace.edges), said


def check_model(model: Model, trace: Trace) -> None:
    """Hold a model against the one that a trace is of.

    Raises:
        ModelError: it is another one.
    """
    traced, own = str(trace.manifest["model"].get("fingerprint")), fingerprint(model)
    if traced != own:
        raise ModelError(
            f"the trace is of another model (its fingerprint is {traced[:12]}…, this one's "
            f"{own[:12]}…); name the traced one with --model, or trace this one anew"
        )


def _listed(source: Given, config: TraceConfig, order: WriterOrder) -> Candidates:
    listed = candidates(source, config, order)
    if not np.any(listed.traced):
        raise TraceFolderError(
            "the trace holds no edge to keep or remove on prompts with answer and distractor; trace with a lower "
            "--threshold, or from other --roots"
        )
    return listed


def _results(
    listed: Candidates,
    order: WriterOrder,
    source: Given,
    attribution: np.ndarray,
    measured: Measured,
    direct: DirectEffects,
    drop: np.ndarray,
) -> dict[str, Any]:
    """The manifest's numbers, and under `tables` the tables.

    Args:
        drop: of each measure without a head, [layer head measure prompt].
    """
    edges, by_measure = measured.edges, range(len(MEASURES))
    names, traced = listed.take(edges).names(order, source.roles), listed.total[edges] / len(source.prompts)
    agreement = [tables.agreement_table(names, traced, attribution[:, edges], measured, m) for m in by_measure]
    main, other = (summary(measured, agreement[m], m) for m in by_measure)
    found = {f"agreement{after}": table for after, table in zip(SUFFIXES, agreement, strict=True)}
    found |= {f"faithfulness{after}": tables.faithfulness_table(measured, m) for m, after in enumerate(SUFFIXES)}
    heads = (direct.effect.mean(axis=0), direct.chosen.mean(axis=0), drop.mean(axis=-1))
    return {
        "default_measure": default_measure(measured),
        **main,
        "log_probability": {"runs": other.pop("log_probability"), **other},
        "output_heads": heads_summary(direct, np.moveaxis(drop, -1, 0)),
        "tables": found | {"output_heads": tables.output_heads_table(*heads)},
    }


def _manifest(
    prepared: Prepared, trace: Trace, source: Given, listed: Candidates, config: TraceConfig, settings: Settings
) -> dict[str, Any]:
    return {
        **versions(),
        "command": "circuit",
        "config": asdict(settings),
        "trace": {"config": trace.manifest["config"], "writers": "all" if all_writers(config) else "heads"},
        "model": model_facts(prepared),
        "prompts": trace.manifest["prompts"] | {"used": len(source.prompts), "left_out": source.left_out},
        "counts": {
            "firings": source.firings.num_rows,
            "edges": int(listed.traced.sum()),
            "candidates": len(listed),
        },
        "device": device_facts(config),
    }

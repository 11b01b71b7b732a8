"""One run of all measurements: each is listed once, and fills in what it found."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from gpt2jax.load import save
from gpt2jax.params import Model
from svdtrace.bench import processes, ratios, roof
from svdtrace.bench.record import Record
from svdtrace.bench.sizes import Sizes
from svdtrace.bench.subject import Subject, gain_for, random_prompts
from svdtrace.bundled.model import bundled_folder
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.tracing.batching import automatic_batch_size
from svdtrace.tracing.devices import usable_cores
from svdtrace.tracing.prepare import processed

Progress = Callable[[int, int, str], None]
COUNTED = 32
"""Prompts on which the gain is looked for."""
BY_RELATIVE = TraceConfig(method=RELATIVE)
BUNDLED_PROMPTS = "ioi:64"
MOST_SPREAD = 0.1
"""What a sweep of ten times the prompts may cost more than ten times, at most, however much this machine scatters."""


@dataclass(frozen=True)
class Setting:
    """What the measurements share; model and prompts are made when first asked for."""

    subject: Subject
    sizes: Sizes

    @cached_property
    def folded(self) -> Model:
        """The subject, ready to be decomposed."""
        return processed(self.subject.model(), TraceConfig())

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Random prompts of the size traced."""
        return random_prompts(self.folded.config, self.sizes.prompts, self.sizes.tokens)


def run(
    subject: Subject | None = None, sizes: Sizes | None = None, full: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure.

    Args:
        subject: by default random weights of GPT-2 small's shape. Random weights' queries and keys are scaled to
            `sizes.firings` firings a prompt; a model of somebody's stays as it is.
        sizes: by default `Sizes()`, with seven runs of everything instead of three when `full`.
        full: more firings, long prompts, linearity and the first result of a model as large as the subject, too.
        progress: called with measurements done, measurements in all, and what is measured now.

    Returns:
        `trace_ratio` (a trace of 256 prompts of 21 tokens, `--roots all`, tables written, over the plain forward pass)
        and `decomposition_ratio` (dense SVDs of all heads' Ω by LAPACK over `svdtrace.decompose`), medians of this run;
        `relative_ratio`, the first of the two under `--method relative`; the device; seconds of each `stages`;
        `targets`, each with its value and whether it is met; and what else was measured: `growth`, `relative_growth`,
        `memory`, `first_result`, `roofline`, `peaks`, when `full` `linearity`.

    Raises:
        BenchError: a measurement's own process failed.
        GPT2JaxError, SvdtraceError: the model cannot be read or traced.
    """
    sizes = sizes or Sizes(repeats=7 if full else 3)
    progress = progress or _silent
    record, setting = Record(), Setting(subject or Subject(), sizes)
    listed = [(name, work) for name, work, only_full in MEASUREMENTS if full or not only_full]
    progress(0, len(listed) + 1, "the model and how often it fires")
    if setting.subject.source is None:
        setting = replace(setting, subject=replace(setting.subject, gain=_gain(setting, sizes.firings)))
    for done, (name, work) in enumerate(listed, 1):
        progress(done, len(listed) + 1, name)
        work(setting, record)
    progress(len(listed) + 1, len(listed) + 1, "done")
    return _in_order(record, setting)


def _silent(_done: int, _total: int, _what: str) -> None:
    """Tell nothing."""


def _in_order(record: Record, setting: Setting) -> dict[str, Any]:
    """The two ratios first, then the machine, then the rest."""
    device, values = jax.local_devices()[0], record.values
    first = {name: values.pop(name) for name in ("trace_ratio", "decomposition_ratio")}
    shape = setting.folded.config
    return {
        **first,
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": usable_cores(),
        "stages": record.stages,
        "targets": record.targets,
        "model": setting.subject.source or "random weights",
        "shape": {name: getattr(shape, name) for name in ("n_layers", "n_heads", "d_model", "d_mlp", "d_vocab")},
        "prompts": len(setting.prompts),
        "tokens": len(setting.prompts[0].tokens),
        "query_key_gain": setting.subject.gain,
        "repeats": setting.sizes.repeats,
        **values,
        **versions(),
    }


def _gain(setting: Setting, firings: int) -> float:
    """How much sharper the subject must become to fire so often."""
    model = replace(setting.subject, gain=1.0).model()
    sizes = setting.sizes
    return gain_for(model, random_prompts(model.config, min(sizes.prompts, COUNTED), sizes.tokens), firings)


def _decomposition(setting: Setting, record: Record) -> None:
    seconds = record.stage("decomposition", ratios.decomposition_seconds(setting.folded, setting.sizes.repeats))
    record.at_most("decomposition_seconds", seconds, 1)


def _dense_svds(setting: Setting, record: Record) -> None:
    seconds, timed = ratios.dense_seconds(setting.folded)
    record.stage("dense_svds", [seconds])
    ratio = seconds / record.stages["decomposition"]["median"]
    record.values |= {"decomposition_ratio": ratio, "dense_svds_timed": timed}
    record.at_least("decomposition_ratio", ratio, 30)


def _trace(setting: Setting, record: Record) -> None:
    found = ratios.forward_and_trace(setting.folded, setting.prompts, setting.sizes.repeats)
    record.stage("forward", found.forward)
    record.stage("trace", found.trace)
    for name, taken in found.stages.items():
        record.stage(f"trace.{name}", taken)
    record.values |= {"trace_ratio": found.ratio, "firings_per_prompt": found.firings_per_prompt}
    record.values["growth"] = [_growth_line("trace_ratio", setting.subject.gain, None, found)]
    record.at_most("trace_ratio", found.ratio, 1.3)


def _relative(setting: Setting, record: Record) -> None:
    """The same by relative attention: a row of T numbers a firing more, and all writers."""
    found = ratios.forward_and_trace(setting.folded, setting.prompts, setting.sizes.repeats, BY_RELATIVE)
    record.stage("relative_forward", found.forward)
    record.stage("relative", found.trace)
    for name, taken in found.stages.items():
        record.stage(f"relative.{name}", taken)
    record.values |= {
        "relative_ratio": found.ratio,
        "relative_growth": [_growth_line("relative_ratio", setting.subject.gain, None, found)],
    }
    record.at_most("relative_ratio", found.ratio, 1.35)


def _relative_growth(setting: Setting, record: Record) -> None:
    """By relative attention, the most firings and some length."""
    sizes = setting.sizes
    if setting.subject.source is None and sizes.more_firings:
        asked = max(sizes.more_firings)
        gain = _gain(setting, asked)
        model = processed(replace(setting.subject, gain=gain).model(), TraceConfig())
        found = ratios.forward_and_trace(model, setting.prompts, sizes.repeats, BY_RELATIVE)
        record.values["relative_growth"].append(_growth_line("relative_ratio", gain, asked, found))
        record.at_most("relative_ratio, more firings", found.ratio, 1.6)
    count, length = sizes.middling
    prompts = random_prompts(setting.folded.config, count, length)
    found = ratios.forward_and_trace(setting.folded, prompts, sizes.repeats, BY_RELATIVE)
    record.values["relative_growth"].append(_growth_line("relative_ratio", setting.subject.gain, None, found))
    record.at_most("relative_ratio, longer prompts", found.ratio, 1.3)


def _growth(setting: Setting, record: Record) -> None:
    """Traces of the same prompts with sharper attention; where no gain gives the firings asked for, the nearest.

    A model of somebody's is not made to fire otherwise than it does.
    """
    if setting.subject.source is not None:
        return
    for asked in setting.sizes.more_firings:
        gain = _gain(setting, asked)
        model = processed(replace(setting.subject, gain=gain).model(), TraceConfig())
        found = ratios.forward_and_trace(model, setting.prompts, setting.sizes.repeats)
        record.values["growth"].append(_growth_line("trace_ratio", gain, asked, found))


def _growth_line(name: str, gain: float, asked: int | None, found: ratios.Traced) -> dict[str, Any]:
    return {
        "firings_asked": asked,
        "firings_per_prompt": found.firings_per_prompt,
        "tokens": len(found.last.prompts["tokens"][0]),
        name: found.ratio,
        "forward_seconds": statistics.median(found.forward),
        "trace_seconds": statistics.median(found.trace),
        "query_key_gain": gain,
    }


def _memory(setting: Setting, record: Record) -> None:
    line = processes.peak_memory(setting.subject, setting.sizes.prompts, setting.sizes.tokens)
    record.values["memory"] = [line]
    record.at_most("trace_peak_gib", line["peak_gib"], 3)


def _long_memory(setting: Setting, record: Record) -> None:
    sizes = setting.sizes
    tokens = min(sizes.long_tokens, setting.folded.config.n_ctx)
    for measure, settings in (("long_trace_peak_gib", {}), ("long_relative_peak_gib", LONG_RELATIVE)):
        its = {"batch_size": sizes.long_batch, **settings}
        line = processes.peak_memory(setting.subject, sizes.long_prompts, tokens, **its)
        record.values["memory"].append(line)
        record.at_most(measure, line["peak_gib"], 3)


def _first_result(setting: Setting, record: Record) -> None:
    if setting.subject.source is None:
        _note_first(record, "bundled", str(bundled_folder()), BUNDLED_PROMPTS)
    else:
        _first_of_batch(setting, record, setting.subject.source)


def _large_first_result(setting: Setting, record: Record) -> None:
    """The subject of random weights, as a folder like anybody's."""
    if setting.subject.source is None:
        with tempfile.TemporaryDirectory() as place:
            save(setting.subject.model(), Path(place) / "model")
            _first_of_batch(setting, record, str(Path(place) / "model"))


def _first_of_batch(setting: Setting, record: Record, model: str) -> None:
    shape, tokens = setting.folded.config, len(setting.prompts[0].tokens)
    size = automatic_batch_size(tokens, shape.n_heads, jax.local_devices()[0].platform)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "prompts.jsonl"
        processes.write_prompts(setting.prompts[:size], path)
        _note_first(record, setting.subject.source or "random weights", model, str(path))


def _note_first(record: Record, name: str, model: str, prompts: str) -> None:
    found = processes.first_result(model, prompts)
    record.values.setdefault("first_result", []).append({"model": name, **found})
    record.at_most(f"first_result_seconds, {name}", found["first_result_seconds"], 30)
    record.at_most(f"second_start_seconds, {name}", found["second_start_seconds"], 8)


def _linearity(setting: Setting, record: Record) -> None:
    sizes = setting.sizes
    found = processes.linearity(setting.subject, sizes.swept, sizes.tokens, sizes.repeats)
    record.values["linearity"] = found
    # A run that scatters by more than this shows nothing, and must not pass for it.
    spread = min(found["spread"], MOST_SPREAD)
    record.at_most("sweep_seconds_ratio", found["seconds_ratio"], found["prompts_ratio"] * (1 + spread))


def _roofline(setting: Setting, record: Record) -> None:
    sizes, model = setting.sizes, setting.folded
    peaks = roof.measured_peaks(sizes.matmul, sizes.triad)
    taken, firings, batches = roof.attribution(model, setting.prompts, sizes.repeats)
    record.stage("attribute", taken)
    works = roof.stage_works(model.config, batches, firings)
    record.values["roofline"] = [
        roof.roof_line(stage, work, record.stages[stage]["median"], peaks) for stage, work in works.items()
    ]
    record.values["peaks"] = {
        "matmul_gflop_per_second": peaks.flop / roof.GIGA,
        "triad_gib_per_second": peaks.traffic / roof.GIB,
    }


LONG_RELATIVE = {"method": "relative", "threshold": "dynamic", "roots": "logit"}
"""Of long prompts, where nearly every token of every head fires, and roots reach few of them."""
MEASUREMENTS: tuple[tuple[str, Callable[[Setting, Record], None], bool], ...] = (
    ("all heads' decomposition", _decomposition, False),
    ("dense SVDs by LAPACK", _dense_svds, False),
    ("forward pass and trace", _trace, False),
    ("a trace by relative attention", _relative, False),
    ("the roof of each stage", _roofline, False),
    ("peak memory", _memory, False),
    ("first result", _first_result, False),
    ("traces of more firings", _growth, True),
    ("relative attention, more firings and tokens", _relative_growth, True),
    ("peak memory of long prompts", _long_memory, True),
    ("first result of large weights", _large_first_result, True),
    ("sweeps of few and many prompts", _linearity, True),
)
"""What is shown while it is measured, what measures it, and whether only a full run does."""

"""`svdtrace intervene`: signals between heads taken away or doubled, and what becomes of the output."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import ConfigChoice, Flag, Flat, Folder, ModelChoice, PromptChoice, Voice
from svdtrace.config import TraceConfig
from svdtrace.errors import OptionError
from svdtrace.interventions.settings import EditSettings, InterventionConfig

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.tracing.trace import Trace

STRONGEST = 10
SHOWN = 40


@dataclass(frozen=True)
class EdgeChoice:
    """Which edges."""

    edges: Annotated[str | None, tyro.conf.arg(metavar="E,…", help_behavior_hint="")] = None
    """Edges WRITER:READER@DEST:SRC/SIDE, joined by commas; DEST and SRC are roles or positions, SIDE is dest or src."""
    folder: Annotated[Path | None, tyro.conf.arg(name="from", metavar="DIR", help_behavior_hint="")] = None
    """Folder of a trace, whose edges, prompts and settings are used."""
    strongest: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="")] = None
    """The K edges of the trace with the largest total weight; 10 where nothing else is chosen."""
    into: Annotated[str | None, tyro.conf.arg(metavar="NODE", help_behavior_hint="")] = None
    """All edges of the trace into a head, 9.9 or 9.9@end."""
    out_of: Annotated[str | None, tyro.conf.arg(metavar="NODE", help_behavior_hint="")] = None
    """All edges of the trace out of a head or another writer, 8.6, 8.6@end or mlp.3."""
    every: Flag[bool] = False
    """All edges of the trace."""
    together: Flag[bool] = False
    """Edit all edges chosen at once, as one set, instead of each alone."""


@dataclass(frozen=True)
class Options:
    """Take signals between heads away, or add them once more, and see what becomes of the output.

    The strongest edges of a trace, beside controls: `svdtrace intervene --from trace --control norm --seeds 8`

    Named edges: `svdtrace intervene --prompts ioi:64 --edges 1.5:2.6@end:IO/src --where local`

    All that a head reads at a token at once: `svdtrace intervene --from trace --into 2.6@end --together --method joint`
    """

    chosen: Annotated[EdgeChoice, Flat] = field(default_factory=EdgeChoice)
    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    out: Folder = Path("intervene")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    file: Annotated[ConfigChoice, Flat] = field(default_factory=ConfigChoice)
    settings: Annotated[EditSettings, Flat] = field(default_factory=EditSettings)
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Edit, write, print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)
    _check(options.chosen)

    from svdtrace.cli.loading import load_model
    from svdtrace.cli.places import at_places, said_at_places
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.folders.reading import read
    from svdtrace.interventions.intervening import intervene
    from svdtrace.output.seconds import count_seconds

    trace = None if options.chosen.folder is None else read(options.chosen.folder)
    tracing = TraceConfig() if options.file.config is None else TraceConfig.from_file(options.file.config)
    if trace is not None and options.file.config is None:
        tracing = TraceConfig.from_dict(trace.manifest["config"])
    if trace is not None and trace.manifest["config"].get("keys") == "all":
        raise OptionError(
            f"{options.chosen.folder}: holds edges of keys other than the source, which no edit takes away; trace with "
            "--keys summed or own"
        )
    model = load_model(options.inputs, options.voice)
    prompts, places, said = _prompts(options, model, trace)
    edges = _edges(options.chosen, trace)
    config = InterventionConfig(**asdict(options.settings), seed=options.prompts.seed)
    with progress("editing", options.voice) as advance:
        found = intervene(model, prompts, edges, config, tracing=tracing, progress=advance)
    tables = at_places({"table": found.table, "measures": found.measures}, places)
    found = replace(found, **tables, manifest=said_at_places(found.manifest, places, said))
    found.save(options.out)
    found.manifest["seconds"] = count_seconds(options.out, began)
    rows = found.summary().to_pylist()
    if options.voice.json:
        counts = {**found.manifest["counts"], "prompts": len(prompts)}
        seconds = found.manifest["seconds"]
        print_json({"command": "intervene", "out": str(options.out), **counts, "effects": rows, "seconds": seconds})
    elif not options.voice.quiet:
        terminal = console()
        terminal.print(_table(rows))
        terminal.print(_closing(found.manifest, rows))
        terminal.say(f"Written to {options.out}; {options.out / 'effects.svg'} is a picture")
    return 0


def _check(chosen: EdgeChoice) -> None:
    """Hold the options that choose edges against each other."""
    asked = [name for name in ("strongest", "into", "out_of") if getattr(chosen, name) is not None]
    asked += ["every"] if chosen.every else []
    if chosen.folder is None and asked:
        raise OptionError(f"--{asked[0].replace('_', '-')} chooses among a trace's edges; give its folder with --from")
    if chosen.folder is None and chosen.edges is None:
        raise OptionError("no edges are given; give --edges 8.6:9.9@end:IO/dest, or a trace's folder with --from")
    if chosen.strongest is not None and chosen.strongest < 1:
        raise OptionError(f"--strongest is {chosen.strongest}; give 1 or more")


def _prompts(
    options: Options, model: gpt2jax.Model, trace: Trace | None
) -> tuple[list[Prompt], list[int], dict[str, Any]]:
    """The prompts given, else those of the trace, which must be of this model; their places in their input, and what
    a manifest says of that: how many of its records were passed over and, of a trace, the hash of all its prompts.
    """
    from gpt2jax.fingerprint import fingerprint
    from svdtrace.cli.loading import passed_over, places_of, read_prompts
    from svdtrace.results.prompts import prompts_of

    if trace is not None and fingerprint(model) != trace.manifest["model"].get("fingerprint"):
        raise OptionError(f"{options.chosen.folder}: is a trace of another model; name its model with --model")
    if trace is None or options.prompts.prompts is not None or options.prompts.text:
        prompts = read_prompts(options.prompts, model.tokenizer, model.config)
        return prompts, places_of(prompts), {"rejected": passed_over(prompts)}
    said = {name: value for name, value in trace.manifest["prompts"].items() if name in ("rejected", "sha256")}
    return prompts_of(trace.prompts), trace.prompts["prompt"].to_pylist(), said


def _edges(chosen: EdgeChoice, trace: Trace | None) -> list[str]:
    """The sets of edges chosen."""
    from svdtrace.interventions.choice import named_edges

    names = [] if chosen.edges is None else [name for name in chosen.edges.split(",") if name.strip()]
    if trace is not None:
        known = named_edges(trace.prompts, trace.edges)
        names += known.into(chosen.into) if chosen.into is not None else []
        names += known.out_of(chosen.out_of) if chosen.out_of is not None else []
        if chosen.every or chosen.strongest is not None or not names:
            names += known.strongest(len(known.names) if chosen.every else chosen.strongest or STRONGEST)
    names = list(dict.fromkeys(name.strip() for name in names))
    return [",".join(names)] if chosen.together else names


def _table(rows: list[dict[str, Any]]) -> Any:
    from svdtrace.cli.terminal import table

    signals = [row for row in rows if row["control"] == "none"]
    controls = {_key(row): row for row in rows if row["control"] != "none"}
    columns = ("edges", "where", "edit", "prompts", "Δ logit difference", "Δ attn", "KL")
    shown = []
    for row in signals[:SHOWN]:
        cells = [_named(row["edges"]), row["where"], row["direction"], row["prompts"], _interval(row)]
        cells += ["" if row["pattern"] is None else f"{row['pattern']:+.3f}"]
        cells += ["" if row["kl"] is None else f"{row['kl']:.1e}"]
        if controls:
            cells += [_interval(controls[_key(row)]), {True: "yes", False: "no", None: ""}[row["exceeds"]]]
        shown.append(cells)
    more = f", the first {SHOWN} of {len(signals)}" if len(signals) > SHOWN else ""
    columns = (*columns, "controls' Δ", "exceeds") if controls else columns
    return table(f"Effects{more}", columns, shown, left=("edges", "where", "edit"))


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["edges"], row["where"], row["direction"]


def _named(edges: str) -> str:
    """A set's first edge, and how many more it has."""
    first, *others = edges.split(",")
    return f"{first} and {len(others)} more" if others else first


def _closing(manifest: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    from svdtrace.explaining.effects import LEAST_EFFECT
    from svdtrace.interventions.summary import FALSE_DISCOVERIES
    from svdtrace.output.seconds import spent

    counts = manifest["counts"]
    judged = [row["exceeds"] for row in rows if row["exceeds"] is not None]
    by_chance = f"at most {FALSE_DISCOVERIES:.0%} of them by chance, by more than {LEAST_EFFECT:.0%} of the clean mean"
    exceeding = f"{sum(judged)} of {len(judged)} signals exceed their controls ({by_chance}); " if judged else ""
    short = f"{counts['short_controls']} rows with short controls; " if counts["short_controls"] else ""
    return (
        f"{counts['interventions']} interventions on {manifest['prompts']['count']} prompts, {counts['edited']} of "
        f"{counts['rows']} rows edited; {exceeding}{short}{spent(manifest['seconds'])}"
    )


def _interval(row: dict[str, Any]) -> str:
    if row["logit_difference"] is None:
        return ""
    return f"{row['logit_difference']:+.2f} [{row['logit_difference_low']:+.2f}, {row['logit_difference_high']:+.2f}]"

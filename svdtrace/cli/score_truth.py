"""`svdtrace score-truth`: how much of a planted circuit each method finds, and how much rivals do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flat, Folder, ModelChoice, PromptChoice, Voice
from svdtrace.config import Method

if TYPE_CHECKING:
    from rich.console import Console

    from svdtrace.truth.scoring import Scored, Settings

COUNTS = "true edges missed: cut / reader unreached / writer no head, which the method cannot name"


@dataclass(frozen=True)
class Options:
    """Hold what each method finds in a planted model against its known circuit.

    A model to begin with: `weights-tools plant induction --out planted --strength 0.3`

    All methods and their rivals: `svdtrace score-truth planted`

    One method at one coverage: `svdtrace score-truth planted --method exact --coverage 0.9`

    Do nulls see what was planted: `svdtrace score-truth planted --method exact --no-rivals --power 4999`

    Precision and recall of whole graphs over prompts, angles between signals; where DIR is as it was planted, the same
    circuit among weaker and stronger backgrounds too.
    """

    folder: tyro.conf.Positional[Folder]
    """Folder that weights-tools plant wrote."""
    method: Annotated[
        tuple[Method, ...], tyro.conf.arg(metavar="METHOD …", help_behavior_hint="(default: all of them)")
    ] = ()
    """Methods of a trace, see `svdtrace trace --help`."""
    coverage: Annotated[tuple[float, ...], tyro.conf.arg(metavar="SHARE …", help_behavior_hint="")] = ()
    """Shares of the contributions that edges must exceed; 0.5, 0.7, 0.9, 0.97 and 0.999 by default."""
    strength: Annotated[tuple[float, ...], tyro.conf.arg(metavar="X …", help_behavior_hint="")] = ()
    """Strengths of the background beside the model's own; eight from 0 to 1.5 by default."""
    rivals: bool = True
    """Try attribution patching, path patching and composition scores too."""
    power: Annotated[int | None, tyro.conf.arg(metavar="NULLS", help_behavior_hint="(default: not asked)")] = None
    """Hold the circuit against so many random slices, random bases and shuffled prompts, too, at every strength: which
    of its edges do they explain?"""
    out: Folder = Path("score-truth")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Score and write; print a table for the default coverage and one for the largest."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder, names_file

    names_file(options.out, (), options.folder)
    check_folder(options.out)

    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.output.seconds import count_seconds, spent
    from svdtrace.truth.folder import PROMPTS, read_truth
    from svdtrace.truth.scoring import score_truth

    truth, settings = read_truth(options.folder), _settings(options)
    model = load_model(ModelChoice(str(options.folder)), options.voice)
    prompts = read_prompts(PromptChoice(str(options.folder / PROMPTS)), model.tokenizer, model.config)
    with progress("scoring models", options.voice) as advance:
        found = score_truth(model, prompts, truth, settings, progress=advance)
    found.save(options.out)
    found.manifest["seconds"] = count_seconds(options.out, began)
    if options.voice.json:
        powers = {} if found.power is None else {"power": found.power.to_pylist()}
        print_json({"out": str(options.out), **found.manifest, "scores": found.scores.to_pylist(), **powers})
    elif not options.voice.quiet:
        terminal = console()
        _tell(terminal, found)
        terminal.print(spent(found.manifest["seconds"]))
        terminal.say(f"Written to {options.out}; curves.svg shows it")
    return 0


def _settings(options: Options) -> Settings:
    from svdtrace.truth.scoring import Settings

    given = {"methods": options.method, "coverages": options.coverage, "strengths": options.strength}
    given = {name: value for name, value in given.items() if value}
    return Settings(**given, rivals=options.rivals, nulls=options.power)


def _tell(terminal: Console, found: Scored) -> None:
    from svdtrace.truth.figures import shown_coverage

    truth, rows = found.manifest["truth"], found.scores.to_pylist()
    own = [row for row in rows if row["strength"] == rows[0]["strength"]]
    what = "A circuit planted elsewhere"
    if truth["strength"] is not None:
        what = f"{truth['family']} among a background of strength {truth['strength']:g}"
    counts = f"{found.manifest['counts']['edges']} edges, {found.manifest['prompts']['count']} prompts"
    terminal.print(f"{what}: {counts}, from {truth['roots']}")
    coverages = sorted({row["coverage"] for row in own})
    for coverage in sorted({shown_coverage(coverages), coverages[-1]}):
        terminal.print(_scores([row for row in own if row["coverage"] == coverage], coverage))
    terminal.print(
        f"edges: of all prompts. heads: those of heads, where true heads write. most: edges in at least half of the "
        f"prompts, each once. missed: {COUNTS}. angle: the largest between a planted and a found signal, in degrees. "
        "dim: dimensions of a found signal, mean."
    )
    terminal.print(_shortcomings(found, shown_coverage(coverages)))
    if found.power is not None:
        terminal.print(_power(found.power.to_pylist()))
        terminal.print(
            "true: edges that survive every null at a false-discovery rate of 0.05; others: those that do besides. "
            "needed: nulls at which those that beat all so far survive. by null: % of the true edges with p of at most "
            "0.05 against random slices / random bases / shuffled prompts alone. power.svg shows it."
        )


def _scores(rows: list[dict[str, Any]], coverage: float) -> Any:
    from svdtrace.cli.terminal import table

    columns = ("method", "edges", "heads", "most", "missed", "angle", "dim")
    cells = [
        (
            row["method"],
            *(f"{_shown(row[f'precision{of}'])}/{_shown(row[f'recall{of}'])}" for of in ("", "_heads", "_most")),
            f"{row['cut']}/{row['unreached']}/{row['nameless']}",
            _shown(row["angle_most"], 0),
            _shown(row["dimensions"], 1),
        )
        for row in rows
    ]
    return table(f"Coverage {coverage:g}: precision/recall", columns, cells, left=("method",))


def _power(rows: list[dict[str, Any]]) -> Any:
    """How many true edges the nulls leave, by strength and claim, at the most nulls tried."""
    from svdtrace.cli.terminal import table

    most = max(row["nulls"] for row in rows)
    cells = [
        (
            _shown(row["strength"], 1),
            row["claim"],
            f"{row['surviving']} of {row['true']}",
            str(row["others"]),
            "-" if row["nulls_needed"] is None else f"{row['nulls_needed']:,}",
            " / ".join(_shown(row[f"beats_{kind}"], percent=True) for kind in ("slices", "bases", "prompts")),
            f"{row['mean_slice']:.2f} / {row['random_mean_slice']:.2f}",
        )
        for row in rows
        if row["nulls"] == most
    ]
    columns = ("strength", "claim", "true", "others", "needed", "by null, %", "|S| / random")
    return table(f"Against {most:,} nulls of each kind", columns, cells, left=("claim",))


def _shortcomings(found: Scored, coverage: float) -> Any:
    """Of each method the true edge that is missed most often, and the false one that is found most often."""
    from svdtrace.cli.terminal import table

    rows = found.edges.to_pylist()
    own = [row for row in rows if row["strength"] == rows[0]["strength"] and row["coverage"] == coverage]
    cells = []
    for method in dict.fromkeys(row["method"] for row in own):
        mine = [row for row in own if row["method"] == method]
        missed = min((row for row in mine if row["planted"] is not None), key=lambda row: row["share"])
        false = max((row for row in mine if row["planted"] is None), key=lambda row: row["share"], default=None)
        cells.append(
            (
                method,
                f"{_name(missed)} in {1 - missed['share']:.0%}" if missed["share"] < 1 else "none",
                "none" if false is None else f"{_name(false)} in {false['share']:.0%}",
            )
        )
    columns = ("method", "most missed, in % of prompts", "most often false")
    return table(f"Where they fall short, coverage {coverage:g}", columns, cells, left=columns)


def _name(edge: dict[str, Any]) -> str:
    return "{writer}:{reader}@{i}:{j}/{side}".format(**edge)


def _shown(value: float | None, digits: int = 2, *, percent: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.0f}" if percent else f"{value:.{digits}f}"

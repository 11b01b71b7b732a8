"""`svdtrace circuit`: whether a trace's circuit carries what the model does, and whether patching agrees with it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flat, Folder, ModelChoice, Voice

if TYPE_CHECKING:
    from rich.console import Console


TITLES = {"logit_difference": "Logit difference", "log_probability": "Log-probability of the answer"}
RUNS = {
    "clean": "clean run",
    "nothing": "no signal kept",
    "all_candidates_kept": "all candidates kept",
    "all_candidates_removed": "all candidates removed",
}
AREAS = {
    "traced": "traced, by total weight",
    "attribution": "by attribution patching",
    "random": "at random",
    "traced_less_random": "traced less random",
    "traced_less_attribution": "traced less attribution",
}
PAIRS = {
    "traced_path_patching": "traced weight, path patching",
    "attribution_path_patching": "attribution patching, path patching",
    "traced_attribution": "traced weight, attribution patching",
    "traced_size_of_path_patching": "traced weight, size of path patching",
    "traced_size_of_attribution": "traced weight, size of attribution patching",
}


@dataclass(frozen=True)
class Options:
    """Keep or remove a circuit's signals, and measure how much of the behaviour is left.

    Of a trace of the bundled model: `svdtrace circuit trace`

    Of a trace of your own model: `svdtrace circuit trace --model FOLDER --out faithful`

    What is kept or removed is what steers attention: queries and keys. Values and MLPs compute on what is left.
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace, on prompts with answer and distractor."""
    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    out: Folder = Path("circuit")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    points: int = 10
    """Sizes of sets on each curve."""
    seeds: int = 3
    """Random orders of edges to compare with."""
    seed: int = 0
    """Seed of the first of them."""
    patched: int = 128
    """Edges at most that are patched one by one."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Measure and write; print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder, names_file

    names_file(options.out, (), options.folder)
    check_folder(options.out)

    from svdtrace.cli.loading import load_model
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.faithfulness.measured import Settings
    from svdtrace.faithfulness.result import circuit
    from svdtrace.folders.reading import read
    from svdtrace.output.seconds import count_seconds

    settings = Settings(options.points, options.seeds, options.seed, options.patched)
    trace = read(options.folder)
    with progress("editing runs", options.voice) as advance:
        found = circuit(load_model(options.inputs, options.voice), trace, settings, progress=advance)
    found.save(options.out)
    found.manifest["seconds"] = count_seconds(options.out, began)
    if options.voice.json:
        print_json({"out": str(options.out), **found.manifest})
    elif not options.voice.quiet:
        terminal = console()
        _tell(terminal, found.manifest)
        terminal.say(f"Written to {options.out}; curves.svg and agreement.svg show it")
    return 0


def _tell(terminal: Console, said: dict[str, Any]) -> None:
    from svdtrace.output.seconds import spent

    counts, writers = said["counts"], said["trace"]["writers"]
    terminal.print(
        f"{counts['edges']} edges of the circuit, {counts['candidates']} candidates (writers: {writers}); "
        f"{said['prompts']['used']} prompts, {said['prompts']['left_out']} without answer and distractor left out"
    )
    measures = {
        "logit_difference": said | {"runs": said["logit_difference"]},
        "log_probability": said["log_probability"],
    }
    for name in sorted(TITLES, key=lambda name: name != said["default_measure"]):
        title = TITLES[name]
        terminal.print(_ends(measures[name], title))
        terminal.print(_areas(measures[name], title))
    terminal.print(_agreement(measures))
    terminal.print(_heads(said["output_heads"]))
    terminal.print(spent(said["seconds"]))


def _ends(found: dict[str, Any], title: str) -> Any:
    from svdtrace.cli.terminal import table

    rows = [(name, *_row(found["runs"][each])) for each, name in RUNS.items()]
    return table(title, ("run", "mean", "95 % interval"), rows, left=("run",))


def _areas(found: dict[str, Any], title: str) -> Any:
    from svdtrace.cli.terminal import table

    kept, removed = (found["areas"][kind] for kind in ("faithfulness", "completeness"))
    why = found["divisor"]["why"]
    if why is not None:
        without = [(name, why) for each, name in AREAS.items() if each in kept]
        columns = ("edges taken", "why no area is shown")
        return table(f"{title}: area under the curves", columns, without, left=columns)
    rows = [(name, *_row(kept[each]), *_row(removed[each])) for each, name in AREAS.items() if each in kept]
    title = f"{title}: area under the curves (kept alone: high is faithful; removed: low is complete)"
    columns = ("edges taken", "faithfulness", "95 % interval", "completeness", "95 % interval")
    return table(title, columns, rows, left=("edges taken",))


def _agreement(measures: dict[str, Any]) -> Any:
    from svdtrace.cli.terminal import table

    found = [measures[name]["rank_correlations"] for name in TITLES]
    rows = [(name, *(_shown(each[pair]) for each in found)) for pair, name in PAIRS.items()]
    title = f"Rank correlations over {found[0]['edges']} edges"
    return table(title, ("of", *TITLES.values()), rows, left=("of",))


def _heads(found: dict[str, Any]) -> Any:
    from svdtrace.cli.terminal import table

    rows = [
        (
            title,
            _shown(found[f"rank_correlation{after}"]),
            *_row(
                {
                    name: found[f"overlap{after}{end}"]
                    for name, end in (("mean", ""), ("low", "_low"), ("high", "_high"))
                }
            ),
        )
        for title, after in zip(TITLES.values(), ("", "_log_probability"), strict=True)
    ]
    title = (
        f"Heads that write the answer ({found['root_heads_a_prompt']:.1f} a prompt) and heads that ablation finds "
        f"(overlap by chance {found['overlap_by_chance']:.2f})"
    )
    columns = ("ablation measured by", "rank correlation", "overlap", "95 % interval")
    return table(title, columns, rows, left=("ablation measured by",))


def _row(found: dict[str, Any]) -> tuple[str, str]:
    return _shown(found["mean"]), f"{_shown(found['low'])} to {_shown(found['high'])}"


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"

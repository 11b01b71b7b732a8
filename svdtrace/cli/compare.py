"""`svdtrace compare`: what methods' weights are worth, held against taking the writers out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from svdtrace.cli.options import Flat, Folder, ModelChoice, PromptChoice, Voice

if TYPE_CHECKING:
    from rich.console import Console

    from svdtrace.comparison import Comparison

FALLS = {
    "fall": "out",
    "fall_in_slice": "in S",
    "fall_rescaled": "rescaled",
    "fall_at_src": "at j",
    "fall_to_mean": "to mean",
}
TITLES = {
    "dest": "Destination: correlation of weight and fall, all pairs/within a firing",
    "src": "Source: the same",
}
SAID = (
    "out: of what the query, or every key, reads. in S: of relative's slice alone. rescaled: LayerNorm's scale anew. "
    "at j: of the attended key alone. to mean: that key's row put to its mean over the keys."
)


@dataclass(frozen=True)
class Options:
    """Take every writer out of every firing, and hold what that does against what methods say of it.

    On the bundled model: `svdtrace compare --prompts ioi:32`

    Fewer tokens at a time, more firings: `svdtrace compare --prompts ordinary:32 --threshold dynamic`

    Correlations of weights with the fall of the attention, and how many writers must go until the head lets go, in the
    order of each method's weights, at best and at random.
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    threshold: float | Literal["dynamic"] = 0.5
    """Attention from which a head counts as firing, see `svdtrace trace --help`."""
    draws: int = 20
    """Random orders of writers; --seed is theirs too."""
    out: Folder = Path("compare")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Compare and write; print the closing tables."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.comparison import compare
    from svdtrace.config import TraceConfig
    from svdtrace.output.seconds import count_seconds, spent

    config = TraceConfig(threshold=options.threshold)
    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    with progress("taking writers out", options.voice) as advance:
        found = compare(model, prompts, config, draws=options.draws, seed=options.prompts.seed, progress=advance)
    found.save(options.out)
    found.manifest["seconds"] = count_seconds(options.out, began)
    if options.voice.json:
        print_json({"out": str(options.out), **found.manifest, "agreement": found.agreement.to_pylist()})
    elif not options.voice.quiet:
        terminal = console()
        _tell(terminal, found)
        terminal.print(spent(found.manifest["seconds"]))
        terminal.say(f"Written to {options.out}; compare.png shows it")
    return 0


def _tell(terminal: Console, found: Comparison) -> None:
    counts = found.manifest["counts"]
    terminal.print(f"{counts['firings']:,} firings of {found.manifest['prompts']['count']:,} prompts")
    rows = found.agreement.to_pylist()
    for side, title in TITLES.items():
        terminal.print(_agreement([row for row in rows if row["side"] == side], title))
    terminal.print(SAID)
    terminal.print(_removals(found.manifest["removals"]))


def _agreement(rows: list[dict[str, Any]], title: str) -> Any:
    from svdtrace.cli.terminal import table
    from svdtrace.comparison.tables import SPELT

    falls = list(dict.fromkeys(row["counterfactual"] for row in rows))
    value = {(row["method"], row["counterfactual"]): row for row in rows}
    cells = [
        (SPELT.get(method, method), *(_both(value[method, fall]) for fall in falls))
        for method in dict.fromkeys(row["method"] for row in rows)
    ]
    return table(title, ("weight", *(FALLS[fall] for fall in falls)), cells, left=("weight",))


def _both(row: dict[str, Any]) -> str:
    return f"{_shown(row['correlation'])}/{_shown(row['within'])}"


def _removals(said: dict[str, Any]) -> Any:
    from svdtrace.cli.terminal import table
    from svdtrace.comparison.tables import SPELT

    orders = dict.fromkeys(order for found in said.values() for order in found["writers"])
    cells = [
        (SPELT.get(order, order), *(_shown(found["writers"].get(order)) for found in said.values())) for order in orders
    ]
    title = "Writers taken out until the head lets go, mean"
    return table(title, ("order", *said), cells, left=("order",))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

"""`svdtrace trace`: prompts in, the folder of a trace out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from svdtrace.cli.options import EvidenceChoice, Flat, Tracing

if TYPE_CHECKING:
    from svdtrace.tracing.trace import Trace


@dataclass(frozen=True)
class Options(Tracing):
    """Trace which heads talk to which on prompts; write tables, graph and report.

    From all firings on made-up sentences: `svdtrace trace --prompts ioi:64 --out names`

    From what one head reads, in the paper's way: `svdtrace trace --prompts ioi:64 --roots '2.1@end:IO' --method paper`

    From the heads that write the answer, in your model: `svdtrace trace --model FOLDER --prompts FILE --roots logit`

    On one sentence: `svdtrace trace --text 'Then, Mary and John went to the shop.' --threshold 0.4`

    Only edges that chance does not explain: `svdtrace trace --prompts ioi:64 --fdr 0.05 --stability`
    """

    evidence: Annotated[EvidenceChoice, Flat] = field(default_factory=EvidenceChoice)


def run(options: Options) -> int:
    """Trace and write; print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.evidence import examined
    from svdtrace.cli.loading import load_model, places_of, read_prompts
    from svdtrace.cli.summary import show, summary
    from svdtrace.cli.terminal import console, print_json
    from svdtrace.output.seconds import count_seconds

    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    found = examined(model, prompts, options.settings, options.evidence, options.prompts.seed, options.voice)
    found = _at_places(found, places_of(prompts))
    found.save(options.out)
    seconds = count_seconds(options.out, began)
    content = {"command": "trace", "out": str(options.out), **summary(found), "seconds": seconds}
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        show(terminal, content)
        terminal.say(f"Written to {options.out}; open {options.out / 'report.html'}")
    return 0


def _at_places(found: Trace, places: list[int] | None) -> Trace:
    """The trace with its prompts numbered as their lines are, where some of these were empty."""
    if places is None:
        return found
    from svdtrace.tracing.near_ties import renumbered
    from svdtrace.tracing.tables import at_places

    said = found.manifest
    told = {
        "prompts": said["prompts"] | {"rejected": places[-1] + 1 - len(places)},
        "near_ties": said["near_ties"] | {"named": renumbered(said["near_ties"]["named"], places)},
    }
    tables = {name: at_places(getattr(found, name), places) for name in ("prompts", "firings", "edges")}
    return replace(found, **tables, manifest=said | told)

"""`svdtrace trace`: prompts in, the folder of a trace out."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field, replace
from typing import Annotated

from svdtrace.cli.options import EvidenceChoice, Flat, Tracing


@dataclass(frozen=True)
class Options(Tracing):
    """Trace which heads talk to which on prompts; write tables, graph and report.

    From all firings on made-up sentences: `svdtrace trace --prompts ioi:64 --out names`

    From what one head reads, in the paper's way: `svdtrace trace --prompts ioi:64 --roots '2.1@end:IO' --method paper`

    From the heads that write the answer, in your model: `svdtrace trace --model FOLDER --prompts FILE --roots logit`

    On one sentence: `svdtrace trace --text 'Then, Mary and John went to the shop.' --threshold 0.4`

    Only edges that stand out from chance: `svdtrace trace --prompts ioi:64 --fdr 0.05 --stability`
    """

    evidence: Annotated[EvidenceChoice, Flat] = field(default_factory=EvidenceChoice)


def run(options: Options) -> int:
    """Trace and write; print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.evidence import examined
    from svdtrace.cli.loading import load_model, passed_over, places_of, read_prompts
    from svdtrace.cli.places import at_places, said_at_places
    from svdtrace.cli.summary import show, strongest_edge, summary
    from svdtrace.cli.terminal import console, print_json
    from svdtrace.output.seconds import count_seconds

    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    found = examined(model, prompts, options.settings, options.evidence, options.prompts.seed, options.voice)
    if many := passed_over(prompts):
        places = places_of(prompts)
        held = {name: getattr(found, name) for name in ("prompts", "firings", "edges", "close_ups", "likeliest")}
        tables = at_places({name: table for name, table in held.items() if table is not None}, places)
        found = replace(found, **tables, manifest=said_at_places(found.manifest, places, {"rejected": many}))
    found.save(options.out)
    seconds = count_seconds(options.out, began)
    content = {"command": "trace", "out": str(options.out), **summary(found), "seconds": seconds}
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        show(terminal, content)
        if (edge := strongest_edge(found)) is not None:
            terminal.say(f"The strongest edge in words: svdtrace why {shlex.quote(str(options.out))} {edge}")
        terminal.say(f"Written to {options.out}; open {options.out / 'report.html'}")
    return 0

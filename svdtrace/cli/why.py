"""`svdtrace why`: why a head attended there, in words and tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from svdtrace.cli.options import Flat, Folder, Voice
from svdtrace.errors import OptionError


@dataclass(frozen=True)
class Options:
    """Say why a head attended there: where else it could, through which vectors, who wrote them, what is left of it.

    An edge: `svdtrace why trace --prompt 0 --edge 1.5:2.6@end:IO/src`

    A head at a token: `svdtrace why trace --prompt 0 --firing 2.6@end`

    With what taking edges away did: `svdtrace why trace --edge 1.5:2.6@end:IO/src --with intervene`
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace or a sweep."""
    prompt: int = 0
    """Which prompt, by its number in the trace."""
    edge: Annotated[str | None, tyro.conf.arg(metavar="EDGE", help_behavior_hint="")] = None
    """WRITER:READER@DEST:SRC/SIDE, each of DEST and SRC a role or a position."""
    firing: Annotated[str | None, tyro.conf.arg(metavar="FIRING", help_behavior_hint="")] = None
    """LAYER.HEAD@DEST:SRC, or LAYER.HEAD@DEST for where it attends most; by default the topmost at the last token."""
    other: Annotated[Path | None, tyro.conf.arg(name="with", metavar="DIR", help_behavior_hint="")] = None
    """Folder that svdtrace intervene wrote."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Find the firing and print its card."""
    from svdtrace.cli.terminal import console, print_json, tell_unfinished
    from svdtrace.explaining import told
    from svdtrace.explaining.asking import why
    from svdtrace.folders.reading import opened
    from svdtrace.report.answers import tried_in

    if options.edge is not None and options.firing is not None:
        raise OptionError("--edge and --firing are both given; an edge names its firing, so give one of them")
    trace = opened(options.folder)
    tell_unfinished(trace.manifest, options.voice)
    tried = None if options.other is None else tried_in(options.other, trace.manifest)
    card = why(trace, options.prompt, options.edge, options.firing, tried, str(options.folder))
    if options.voice.json:
        print_json({"command": "why", **asdict(card), "left_of_it": dict(told.left_of_it(card))})
    elif not options.voice.quiet:
        terminal = console()
        for line in str(card).splitlines():
            terminal.say(line)
    return 0

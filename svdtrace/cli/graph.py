"""`svdtrace graph`: the circuit of a trace as a graph file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flag, Flat, Folder, Voice
from svdtrace.errors import OptionError, OutputError
from svdtrace.graphs.filters import GraphFilter

if TYPE_CHECKING:
    import networkx as nx

    from svdtrace.results.in_parts import InParts

NAMES = ("graph.json", "graph.graphml")
FORMS = (".json", ".graphml", ".dot", ".svg", ".png", ".pdf")
ATTRIBUTION = ".attribution.json"


@dataclass(frozen=True)
class Options:
    """Write the circuit of a trace, or a part of it, as JSON, GraphML, DOT, a picture or an attribution graph.

    Into a folder named graph: `svdtrace graph trace`

    Its upper layers, counted as the published graphs are: `svdtrace graph trace --paper --firings-min 66 --layer-min 7
    --out top.graphml`

    What a task has over ordinary text, drawn: `svdtrace graph task --against ordinary --heads --out difference.svg`

    One prompt for Neuronpedia's viewer: `svdtrace graph trace --prompt 3 --out prompt.attribution.json`
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace or a sweep."""
    paper: Flag[bool] = False
    """Count as the published graph does (METHOD.md, section 8)."""
    heads: Flag[bool] = False
    """Count together what a head writes and reads at all tokens."""
    prompt: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """One prompt alone, by its number in the trace."""
    against: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of another trace, whose weights per prompt are taken off; see --heads where the roles differ."""
    part: Annotated[GraphFilter, Flat] = field(default_factory=GraphFilter)
    communities: Flag[bool] = False
    """Divide the heads into communities; each node then has the number of its own."""
    seed: int = 0
    """Seed of the search for communities."""
    nodes_max: int = 500
    """Most nodes of an attribution graph: those whose links weigh most."""
    links_max: int = 5000
    """Most links of an attribution graph: the strongest."""
    out: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE|DIR")] = ()
    """File that ends in .json, .graphml, .dot, .svg, .png, .pdf or .attribution.json, or a folder for the first two;
    may be given several times (default: graph)."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Build the graph and write it; print its strongest edges."""
    from svdtrace.cli.reading import reading
    from svdtrace.cli.summary import strongest
    from svdtrace.cli.terminal import print_json, tell_unfinished
    from svdtrace.folders.reading import opened
    from svdtrace.results.emptiness import why_empty

    _check(options)
    _check_places(options)
    whole = opened(options.folder)
    tell_unfinished(whole.manifest, options.voice)
    against = None if options.against is None else opened(options.against)
    differing = [] if against is None else _differing(whole, against)
    with reading(options.voice) as watch:
        whole = watch(whole, options.folder)
        trace = _prompt(whole, options.prompt)
        other = None if against is None or options.against is None else watch(against, options.against)
        circuit, found = _circuit(whole, trace, other, options)
        # What cannot be made is told before anything is written.
        viewed = _attribution(trace, options)
        written = [
            path for out in options.out or (Path("graph"),) for path in _write(circuit, viewed, trace, out, options)
        ]
    content: dict[str, Any] = {
        "command": "graph",
        "paper": options.paper,
        "files": [str(path) for path in written],
        "nodes": circuit.number_of_nodes(),
        "edges": circuit.number_of_edges(),
        "why_empty": why_empty(whole.manifest),
        **({"settings_that_differ": differing} if options.against is not None else {}),
        **found,
        "strongest_edges": strongest(circuit, size=float if options.against is None else abs),
    }
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        _tell(content, differing, options)
    return 0


def _tell(content: Mapping[str, Any], differing: Sequence[str], options: Options) -> None:
    from svdtrace.cli.summary import edges_table
    from svdtrace.cli.terminal import console, counted

    terminal = console()
    title = "Strongest edges" if options.against is None else "Largest differences, weight per prompt"
    terminal.print(edges_table(content["strongest_edges"], title))
    if differing:
        terminal.print(f"The two traces differ in {', '.join(differing)} too, not in their prompts alone.")
    for number, members in enumerate(content.get("communities", ()), 1):
        terminal.print(f"Community {number}: {', '.join(members)}")
    if content["why_empty"]:
        terminal.print(content["why_empty"])
    by_roles = not options.paper and not options.heads
    apart = " (a connection counts once for each role that its reader fires at)" if by_roles else ""
    said = f"{counted(content['nodes'], 'node')}, {counted(content['edges'], 'edge')}{apart}"
    terminal.say(f"{said}; written to {', '.join(content['files'])}")


def _check(options: Options) -> None:
    """Refuse what has no meaning together, before anything is read or written."""
    if options.paper and (options.heads or options.against is not None):
        raise OptionError("--paper counts one trace by roles, as the published graphs do; leave out --heads, --against")
    if options.heads and options.part.roles != "all":
        raise OptionError(
            "--heads counts all tokens together, so that no edge has a role; leave out --heads or --roles"
        )
    if any(out.name.endswith(ATTRIBUTION) for out in options.out) and options.prompt is None:
        raise OptionError("an attribution graph is that of one prompt; name it with --prompt N")
    for name in ("nodes_max", "links_max"):
        if getattr(options, name) < 1:
            raise OptionError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give 1 or more")


def _check_places(options: Options) -> None:
    """Refuse a place that cannot be written to before anything is written to another."""
    from svdtrace.output.writing import check_folder, names_file

    for out in options.out:
        if not names_file(out, FORMS, options.folder):
            check_folder(out)
            continue
        there = next(each for each in out.expanduser().absolute().parents if each.exists())
        if not there.is_dir():
            raise OutputError(f"{out}: {there} is a file, not a folder; name another file")


def _prompt(whole: InParts, prompt: int | None) -> InParts:
    """The trace, or the part of it that belongs to the prompt asked for."""
    import pyarrow.compute as pc

    from svdtrace.tracing.trace import Trace

    if prompt is None:
        return whole
    if not 0 <= prompt < 1 << 31:  # what the column holds
        raise OptionError(f"--prompt {prompt}: the trace has no such prompt; it has {_numbers(whole)}")
    own = pc.field("prompt") == prompt
    for part in whole.parts():
        prompts = part.prompts.filter(own)
        if prompts.num_rows:
            return Trace(prompts, part.firings.filter(own), part.edges.filter(own), whole.manifest)
    raise OptionError(f"--prompt {prompt}: the trace has no such prompt; it has {_numbers(whole)}")


def _numbers(trace: InParts) -> str:
    count, ends = 0, set()
    for part in trace.parts():
        numbers = part.prompts["prompt"].to_pylist()
        count += len(numbers)
        ends |= {min(numbers), max(numbers)} if numbers else set()
    return f"{count}, numbered from {min(ends)} to {max(ends)}" if ends else "none"


def _differing(trace: InParts, other: InParts) -> list[str]:
    """Settings that two traces do not share, which a difference shows as well; the batch size decides nothing."""
    here, there = trace.manifest["config"], other.manifest["config"]
    names = [name for name in here if name != "batch_size" and here[name] != there.get(name)]
    return names + ["model"] * (trace.manifest["model"]["fingerprint"] != other.manifest["model"]["fingerprint"])


def _circuit(
    whole: InParts, trace: InParts, other: InParts | None, options: Options
) -> tuple[nx.DiGraph, dict[str, Any]]:
    """The graph asked for, and what is said of it beside its size."""
    from svdtrace.graphs.communities import communities, marked
    from svdtrace.graphs.filters import kept
    from svdtrace.graphs.paper import published_form

    circuit = published_form(whole, options.prompt) if options.paper else _ours(trace, other, options)
    if options.part != GraphFilter():
        circuit = kept(circuit, options.part, whole.manifest["counts"].get("firings_per_head", {}))
    if not options.communities:
        return circuit, {}
    found = communities(circuit, options.seed)
    return marked(circuit, found), {"communities": found.members, "modularity": round(found.modularity, 4)}


def _ours(trace: InParts, other: InParts | None, options: Options) -> nx.MultiDiGraph:
    """The trace's graph, or its difference to another trace's."""
    from svdtrace.graphs.difference import difference
    from svdtrace.results import circuit_graph

    count = circuit_graph.heads if options.heads else circuit_graph.ours
    if other is None:
        return count(trace.parts())
    for where, each in ((options.folder, trace), (options.against, other)):
        if not options.heads and not any(any(part.prompts["roles"].to_pylist()) for part in each.parts()):
            raise OptionError(f"{where}: its prompts have no roles to compare by; compare heads, with --heads")
    prompts = [sum(part.prompts.num_rows for part in each.parts()) for each in (trace, other)]
    return difference(count(trace.parts()), count(other.parts()), *prompts)


def _attribution(trace: InParts, options: Options) -> Mapping[str, Any]:
    """The attribution graph, where one is asked for."""
    from svdtrace.graphs.attribution import attribution_graph

    if options.prompt is None or not any(out.name.endswith(ATTRIBUTION) for out in options.out):
        return {}
    # One prompt is one part.
    (own,) = trace.parts()
    tables = own.prompts, own.edges, trace.manifest
    return attribution_graph(*tables, options.prompt, options.nodes_max, options.links_max)


def _write(circuit: nx.DiGraph, viewed: Mapping[str, Any], trace: InParts, out: Path, options: Options) -> list[Path]:
    from svdtrace.graphs import attribution, formats
    from svdtrace.output.writing import names_file, replaced_file, replaced_folder, write_manifest
    from svdtrace.pictures.token_roles import role_names
    from svdtrace.results.versions import versions

    if names_file(out, FORMS, options.folder):
        with replaced_file(out) as staging:
            if out.name.endswith(ATTRIBUTION):
                attribution.write(viewed, staging)
            elif out.suffix in formats.WRITERS:
                formats.write(circuit, staging)
            else:
                # Only a picture loads what draws.
                from svdtrace.graphs.figures import graph_picture

                graph_picture(circuit, staging, role_names(trace.parts()))
        return [out]
    with replaced_folder(out) as folder:
        for name in NAMES:
            formats.write(circuit, folder / name)
        made = {"command": "graph", "trace": str(options.folder), "paper": options.paper}
        asked = {"heads": options.heads, "prompt": options.prompt, "part": asdict(options.part)}
        write_manifest(folder, {**versions(), **made, **asked, "against": options.against and str(options.against)})
    return [out / name for name in NAMES]

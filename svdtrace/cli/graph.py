"""`svdtrace graph`: the circuit of a trace as a graph file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flag, Flat, Folder, Voice

if TYPE_CHECKING:
    import networkx as nx

    from svdtrace.tracing import Trace

NAMES = ("graph.json", "graph.graphml")


@dataclass(frozen=True)
class Options:
    """Write the circuit of a trace as graph.json and graph.graphml.

    Into a folder named graph: `svdtrace graph trace`

    Counted as the published graphs are, into one file: `svdtrace graph trace --paper --out circuit.graphml`
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace."""
    paper: Flag[bool] = False
    """Count as the published graph does (METHOD.md, section 8)."""
    out: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE|DIR")] = ()
    """File that ends in .json or .graphml, or a folder for both; may be given several times (default: graph)."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Build the graph and write it; print its strongest edges."""
    from svdtrace.cli.summary import edges_table, strongest
    from svdtrace.cli.terminal import console, print_json
    from svdtrace.trace_folder import read

    trace = read(options.folder)
    circuit = _paper(trace) if options.paper else trace.graph()
    written = [path for out in options.out or (Path("graph"),) for path in _write(circuit, out, options)]
    content: dict[str, Any] = {
        "command": "graph",
        "paper": options.paper,
        "files": [str(path) for path in written],
        "nodes": circuit.number_of_nodes(),
        "edges": circuit.number_of_edges(),
        "strongest_edges": strongest(circuit),
    }
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        terminal.print(edges_table(content["strongest_edges"]))
        terminal.print(f"{content['nodes']} nodes, {content['edges']} edges; written to {', '.join(content['files'])}")
    return 0


def _paper(trace: Trace) -> nx.DiGraph:
    """The graph of a trace in the published way of counting."""
    from gpt2jax.config import GPT2Config
    from svdtrace.paper_graph import paper_graph, prompt_firings
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.roots import parse_roots

    names = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
    shape = {name: trace.manifest["model"][name] for name in names}
    prompts = [
        Prompt(row["id"], tuple(row["tokens"]), tuple(row["strings"]), dict(row["roles"]))
        for row in trace.prompts.to_pylist()
    ]
    roots = parse_roots(trace.manifest["config"]["roots"], GPT2Config(**shape, d_mlp=4 * shape["d_model"]), prompts)
    counts = {
        (int(layer), int(head)): count
        for name, count in trace.manifest["counts"]["firings_per_head"].items()
        for layer, head in [name.split(".")]
    }
    return paper_graph(prompt_firings(trace.prompts, trace.firings, trace.edges, roots), counts)


def _write(circuit: nx.DiGraph, out: Path, options: Options) -> list[Path]:
    from svdtrace import graph
    from svdtrace.output import names_file, replaced_file, replaced_folder, write_manifest
    from svdtrace.versions import versions

    if names_file(out, (".json", ".graphml"), options.folder):
        with replaced_file(out) as staging:
            graph.write(circuit, staging)
        return [out]
    with replaced_folder(out) as folder:
        for name in NAMES:
            graph.write(circuit, folder / name)
        made = {"command": "graph", "trace": str(options.folder), "paper": options.paper}
        write_manifest(folder, {**versions(), **made})
    return [out / name for name in NAMES]

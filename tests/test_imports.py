"""The one-way street: what each module may import, and what is loaded by importing a package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gpt2jax", "svdtrace", "weights_tools")

# The rooms of svdtrace, lowest first; those in one row do not know each other. What lies at the root is below them all.
ROOMS = [
    "errors",
    "surroundings",
    "config statistics",
    "prompts bundled output",
    "method",
    "results",
    "tracing",
    "pictures",
    "explaining",
    "graphs report",
    "sweeping",
    "folders",
    "interventions nulls faithfulness characterisation patching atlas comparison",
    "reproduction bench truth testing",
    "cli",
]
FLOOR = {room: floor for floor, row in enumerate(ROOMS) for room in row.split()}
# The arrows upwards: a trace writes its own folder, and shows itself.
UPWARDS = {
    ("svdtrace.tracing.trace", "svdtrace.folders.writing"),
    *(
        ("svdtrace.tracing.showing", f"svdtrace.{name}")
        for name in ("explaining.asking", "explaining.frames", "pictures.inline")
    ),
}

# What computes: arrays in, arrays out.
NUMERICS = {
    "gpt2jax": "activations blocks edits fold forward generate numerics params random residual sites",
    "svdtrace": "statistics method.bounds method.contributions method.cuts method.decomposition method.edges "
    "method.firings method.relative method.relative_bounds method.slices method.taking "
    "tracing.attribute tracing.attended tracing.close_up tracing.loops tracing.observe tracing.output_roots "
    "tracing.over_keys tracing.paths tracing.prepare tracing.relative tracing.relative_sides "
    "tracing.relative_ties tracing.roots "
    "characterisation.concentration characterisation.directions characterisation.projections "
    "characterisation.slice_sizes nulls.draws nulls.edge_statistic "
    "interventions.clean interventions.edits interventions.pairs interventions.planning interventions.scene "
    "interventions.signals interventions.windows faithfulness.agreement faithfulness.curves faithfulness.means "
    "atlas.chance atlas.composing atlas.directions atlas.factors atlas.medians atlas.positions atlas.positivity "
    "atlas.surveying comparison.orders comparison.removing truth.background truth.drawing",
}
WORLD = {
    *("argparse", "builtins", "glob", "gzip", "http", "io", "json", "logging", "os", "pathlib", "pickle", "random"),
    *("shutil", "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib"),
    *("huggingface_hub", "jinja2", "matplotlib", "networkx", "pyarrow", "rich", "safetensors", "tokenizers", "tyro"),
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Every module of a package, by dotted name."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path, *, annotations: bool = False) -> set[str]:
    """What a module imports anywhere, imports for annotations alone aside unless asked for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = node.body if annotations else []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def all_imports() -> dict[str, set[str]]:
    """Every module of ours with the modules of ours that it names, for annotations too; packages' fronts aside."""
    paths = dict(each for package in PACKAGES for each in modules(package))
    inner = {name: path for name, path in paths.items() if path.name != "__init__.py"}
    return {name: (imports(path, annotations=True) & inner.keys()) - {name} for name, path in inner.items()}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_gpt2jax_knows_nothing_of_circuits():
    for name, path in modules("gpt2jax"):
        assert not {each for each in imports(path) if within(each, "svdtrace") or within(each, "weights_tools")}, name


def test_svdtrace_does_not_know_who_made_the_weights():
    for name, path in modules("svdtrace"):
        assert not {each for each in imports(path) if within(each, "weights_tools")}, name


def test_weights_tools_takes_only_sentences_what_plants_and_the_front_of_a_command_line_from_svdtrace():
    for name, path in modules("weights_tools"):
        taken = {each for each in imports(path) if within(each, "svdtrace")}
        taken -= {"svdtrace", "svdtrace.prompts"}
        allowed = ("svdtrace.prompts.language", "svdtrace.surroundings", "svdtrace.truth")
        assert all(any(within(each, room) for room in allowed) for each in taken), (name, taken)


def test_what_weights_tools_does_knows_no_command_and_not_each_other():
    for name, path in modules("weights_tools"):
        if "." in name and room(name) != "cli":
            taken = {each for each in imports(path, annotations=True) if within(each, "weights_tools")}
            assert {room(each) for each in taken} <= {room(name)}, name


def test_what_lies_around_a_process_imports_no_more_of_svdtrace_than_errors():
    for name, path in modules("svdtrace/surroundings"):
        taken = {each for each in imports(path) if within(each, "svdtrace") or within(each, "gpt2jax")}
        taken -= {"svdtrace", "svdtrace.errors"}
        assert all(within(each, "svdtrace.errors") or within(each, "svdtrace.surroundings") for each in taken), name


def test_the_language_imports_nothing_else_of_svdtrace():
    for name, path in modules("svdtrace/prompts/language"):
        taken = {each for each in imports(path) if within(each, "svdtrace")}
        assert all(within(each, "svdtrace.prompts.language") for each in taken), (name, taken)


@pytest.mark.parametrize("name", [f"{package}.{stem}" for package, stems in NUMERICS.items() for stem in stems.split()])
def test_numerics_touch_nothing_but_arrays(name: str):
    path = ROOT / Path(*name.split(".")).with_suffix(".py")
    assert not {each for each in imports(path) if each.partition(".")[0] in WORLD}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"print", "open", "input"}


def room(name: str) -> str:
    return name.split(".")[1]


def test_every_module_stands_in_a_room():
    here = {path.name for path in (ROOT / "svdtrace").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    loose = {path.stem for path in (ROOT / "svdtrace").glob("*.py")} - {"__init__"}
    assert here | loose == FLOOR.keys()
    assert loose == {"config", "errors", "statistics"}


def test_a_room_imports_only_from_rooms_below_it():
    taken = {(name, each) for name, those in all_imports().items() for each in those}
    within_svdtrace = {pair for pair in taken if all(within(each, "svdtrace") for each in pair)}
    between = {pair for pair in within_svdtrace if room(pair[0]) != room(pair[1])}
    upwards = {pair for pair in between if FLOOR[room(pair[1])] >= FLOOR[room(pair[0])]}
    assert upwards == UPWARDS


def test_nothing_is_imported_in_a_circle():
    left = all_imports()
    while ends := {name for name, those in left.items() if not those & left.keys()}:
        left = {name: those for name, those in left.items() if name not in ends}
    assert not left


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import gpt2jax", "pyarrow networkx matplotlib tyro jinja2 svdtrace"),
        ("import svdtrace", "jax pyarrow networkx matplotlib tyro rich jinja2 gpt2jax"),
        (
            "import svdtrace.cli.parser as p; p.parse(['--version', '--help'])",
            "jax pyarrow networkx matplotlib gpt2jax",
        ),
        ("import svdtrace.folders.writing, svdtrace.comparison.comparing", "matplotlib"),
        ("import svdtrace.prompts.language", "pyarrow networkx matplotlib tyro svdtrace.tracing.trace svdtrace.config"),
    ],
)
def test_importing_loads_no_more_than_is_needed(statement: str, unwanted: str):
    code = f"import sys; {statement}; print([each for each in {unwanted.split()} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_tests_use_public_names():
    """A private name may change whenever its module likes; what tests need deserves a name of its own."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
                found += [(path.name, node.module, each.name) for each in node.names if each.name.startswith("_")]
    assert not found

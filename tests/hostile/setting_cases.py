"""Options that mean nothing or too much: settings, roots, edges, targets, seeds, files of settings, variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gpt2jax
import svdtrace
from hostile.refusals import Case, Files
from svdtrace import prompts
from svdtrace.config import TraceConfig
from svdtrace.surroundings.streams import visible

PROMPTS = [{"tokens": [1, 2, 3, 4], "roles": {"IO": 1, "end": 3}, "answer": 5, "distractor": 6}]
GIVEN = ("--model", "model", "--prompts", "p.jsonl")
FILES: Files = {"p.jsonl": PROMPTS}
MANY = "9" * 5000
WIRE = {"writer": "0.0", "reader": "1.0", "side": "src", "t": "IO", "i": "end", "j": "IO"}


def of_settings(name: str, said: str, also: str = "", python: dict[str, Any] | None = None, **settings: Any) -> Case:
    """A setting of a trace out of its range, as an option and in Python."""
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]

    def make() -> object:
        return TraceConfig(**(settings if python is None else python))

    return Case(name, ("trace", *GIVEN, *options), said, FILES, python=make, also=(also,))


def of_file(name: str, content: Any, said: str, *also: str) -> Case:
    """A file of settings."""
    files = {**FILES, "settings.json": content}
    return Case(
        name,
        ("trace", *GIVEN, "--config", "settings.json"),
        said,
        files,
        python=lambda: TraceConfig.from_file("settings.json"),
        also=also,
    )


def of_trace(
    name: str, said: str, *options: str, python: dict[str, Any] | None = None, also: tuple[str, ...] = ()
) -> Case:
    """A trace that cannot be asked for."""

    def trace() -> object:
        model = gpt2jax.load("model")
        found = prompts.read("p.jsonl", model.tokenizer, config=model.config)
        return svdtrace.trace(model, found, TraceConfig(**(python or {})))

    return Case(name, ("trace", *GIVEN, *options), said, FILES, python=None if python is None else trace, also=also)


def of_edge(edge: str, said: str, *also: str, name: str | None = None) -> Case:
    """An edge that is none."""

    def edit() -> object:
        model = gpt2jax.load("model")
        found = prompts.read("p.jsonl", model.tokenizer, config=model.config)
        return svdtrace.intervene(model, found, [edge])

    arguments = ("intervene", *GIVEN, f"--edges={edge}")
    return Case(name or f"edge {edge}", arguments, said, FILES, python=edit, also=also)


def of_command(name: str, said: str, *arguments: str, files: Files | None = None, also: tuple[str, ...] = ()) -> Case:
    return Case(name, arguments, said, FILES if files is None else files, also=also)


def setting(variable: str, value: str) -> Callable[[], None]:
    """Give a variable a value; the test takes it back."""
    return lambda: os.environ.__setitem__(variable, value)


RANGES = [
    of_settings(f"{name} {value}", f"{name} is {float(value)}; it must be above 0 and at most 1", **{name: value})
    for name in ("tau", "coverage", "threshold")
    for value in (0.0, -0.5, 1.0000001)
]
RANGES += [
    *(
        of_settings(f"{name} {value}", f"{name} is {value}; give a number", **{name: float(value)})
        for name in ("tau", "threshold", "coverage", "score_min")
        for value in ("nan", "inf")
    ),
    of_settings("a score below nought", "score_min is -1.0; it must be 0 or more", score_min=-1.0),
    of_settings("batches of nought", "batch_size is 0; give a whole number of prompts", batch_size=0),
    of_settings("batches below nought", "batch_size is -3; give a whole number of prompts", batch_size=-3),
    of_settings("keys without their method", 'keys is "own", which method relative alone has', keys="own"),
    of_settings(
        "targets without their roots", 'targets are "top-k 3", which roots probability alone has', targets="top-k 3"
    ),
    of_command("roots of nothing", "--roots is empty; give a value", "trace", *GIVEN, "--roots", ""),
]
OF_FILES = [
    of_file("settings that are no JSON", "{", "settings.json: not valid JSON ("),
    of_file("settings that are a list", "[]", "settings.json: expected one JSON object of settings"),
    of_file("settings that are deep", "[" * 100_000, "settings.json: not valid JSON ("),
    of_file("settings that are not UTF-8", b"\xff", "settings.json: not valid JSON ("),
    of_file("settings unknown", {"tua": 1}, 'settings.json: unknown setting "tua"; did you mean "tau"?'),
    of_file(
        "settings with a name of control characters",
        {"\x1b[2J": 1},
        'settings.json: unknown setting "\\x1b[2J"; there are',
    ),
    of_file("a threshold that no float holds", '{"threshold": 1' + "0" * 400 + "}", "settings.json: threshold is 1000"),
    of_file("a threshold that is null", {"threshold": None}, "settings.json: threshold is None; give a number"),
    of_file("a threshold that is a list", {"threshold": [0.5]}, "settings.json: threshold is [0.5]; give a number"),
    of_file("a threshold that is true", {"threshold": True}, "settings.json: threshold is True; give a number"),
    of_file(
        "a batch size that is a fraction", {"batch_size": 1.5}, "settings.json: batch_size is 1.5; give a whole number"
    ),
    of_file("a switch that is a number", {"skip_first": 1}, "settings.json: skip_first is 1; give true or false"),
    of_file(
        "a method that is an object", {"method": {}}, "settings.json: method is {}; choose one of paper, all, exact"
    ),
    of_file("roots that are a list", {"roots": ["1.0@*:*"]}, "settings.json: roots is ['1.0@*:*']; give all, logit"),
    of_command("no file of settings", "gone.json: no such file", "trace", *GIVEN, "--config", "gone.json"),
    of_command("a folder as settings", "model: cannot be read (Is a directory)", "trace", *GIVEN, "--config", "model"),
]
ROOTS = [
    of_trace(
        f"root {root if len(root) < 40 else name}",
        f'root "{visible(root[:40])}',
        f"--roots={root}",
        python={"roots": root},
        also=(said,),
    )
    for name, root, said in [
        ("", "9.0@end:IO", "the model has no head 9.0; layers go from 0 to 1, heads from 0 to 1"),
        ("", "1.7@end:IO", "the model has no head 1.7"),
        ("", "0.1@end:IO", "heads of layer 0 have no earlier heads to trace"),
        ("", "1.0@end:S2", 'no prompt has a role "S2"; they have IO, end'),
        ("", "1.0@9:IO", "position 9 is outside every prompt; the longest has 4 tokens"),
        ("", "1.0@-1:IO", 'no prompt has a role "-1"'),
        ("", "1.0", "is not of the form LAYER.HEAD@DEST:SRC"),
        ("", "1.0@end:IO/dest", 'no prompt has a role "IO/dest"'),
        ("", "x.y@end:IO", "is not of the form"),
        ("of thousands of digits", f"{MANY}.0@end:IO", "is not of the form"),
        ("at thousands of digits", f"1.0@{MANY}:IO", "they have IO, end"),
        ("of control characters", "1.0@e\x1b[2J:IO", 'no prompt has a role "e\\x1b[2J"'),
    ]
]
EDGES = [
    of_edge("0.0:9.0@end:IO/src", 'edge "0.0:9.0@end:IO/src": the model has no head 9.0; layers go from 0 to 1'),
    of_edge("0.7:1.0@end:IO/src", 'edge "0.7:1.0@end:IO/src": the model has no head 0.7'),
    of_edge("1.0:1.0@end:IO/src", 'edge "1.0:1.0@end:IO/src": 1.0 does not stand below layer 1'),
    of_edge(
        "0.0:1.0@end:S2/src", 'edge "0.0:1.0@end:S2/src": no prompt has a role or position "S2"; they have IO, end'
    ),
    of_edge("0.0:1.0@9:IO/src", 'edge "0.0:1.0@9:IO/src": no prompt has a role or position "9"'),
    of_edge("0.0:1.0@end:IO", 'edge "0.0:1.0@end:IO" is not of the form WRITER:READER@DEST:SRC/SIDE'),
    of_edge("0.0:1.0@end:IO/key", 'edge "0.0:1.0@end:IO/key" is not of the form'),
    of_edge("mlp:1.0@end:IO/src", 'edge "mlp:1.0@end:IO/src": no writer is named "mlp"; writers are'),
    of_edge("const:1.0@end:IO/src", 'edge "const:1.0@end:IO/src": const is the same everywhere and is not edited'),
    of_edge(
        f"{MANY}.0:1.0@end:IO/src", 'edge "999', "; writers are heads (8.6)", name="a writer of thousands of digits"
    ),
    of_edge("'; drop table edges; --", 'edge "\'; drop table edges; --" is not of the form'),
    of_command("no edges", "no edges are given; give --edges", "intervene", *GIVEN),
    of_command("edges of nothing", "there are no edges; name at least one", "intervene", *GIVEN, "--edges=,"),
    of_command(
        "strongest of nothing", "--strongest chooses among a trace's edges", "intervene", *GIVEN, "--strongest", "3"
    ),
    of_command(
        "seeds of nought",
        "seeds is 0; give 1 or more",
        "intervene",
        *GIVEN,
        "--edges=0.0:1.0@end:IO/src",
        "--control",
        "norm",
        "--seeds",
        "0",
    ),
]
TARGETS = [
    of_trace(
        f"targets {text if len(text) < 20 else name}",
        said,
        "--roots",
        "probability",
        "--targets",
        text,
        python={"roots": "probability", "targets": text},
    )
    for name, text, said in [
        ("", "top-k 0", 'targets are "top-k 0"; give top-k with a number from 1 to 268'),
        ("", "top-k 269", 'targets are "top-k 269"; give top-k with a number from 1 to 268'),
        ("many", f"top-k {MANY}", 'targets are "top-k 999'),
        ("", "top-p 0", 'targets are "top-p 0"; give top-p with a share above 0'),
        ("", "top-p nan", 'targets are "top-p nan"; give top-p with a share above 0'),
        ("", "Mary John", 'target "Mary John" is not one token of the model'),
        ("", "268", 'target "268" is not one token of the model'),
        ("many ids", MANY, 'target "999'),
    ]
]
OTHERS = [
    of_command(
        "a false-discovery rate of nought",
        "fdr is 0.0; it must be above 0 and at most 1",
        "trace",
        *GIVEN,
        "--fdr",
        "0",
    ),
    of_command(
        "blocks as wide as all", "blocks is 1.0; it must be from 0 to below 1", "trace", *GIVEN, "--blocks", "1"
    ),
    of_command("blocks of less than nothing", "blocks is -0.1; it must", "trace", *GIVEN, "--blocks=-0.1"),
    of_command("a false-discovery rate of two", "fdr is 2.0; it must", "trace", *GIVEN, "--fdr", "2"),
    of_command("a false-discovery rate that is no number", "fdr is nan; it must", "trace", *GIVEN, "--fdr", "nan"),
    of_command("nulls below nought", "nulls is -1; give 1 or more", "trace", *GIVEN, "--nulls", "-1"),
    of_command(
        "a seed that JAX takes for another",
        "--seed is 4294967296; give at most 2147483647",
        "trace",
        *GIVEN,
        "--seed",
        str(1 << 32),
    ),
    of_command(
        "seeds without end",
        "seeds is 1000000000; give at most 10000",
        "intervene",
        *GIVEN,
        "--edges=0.0:1.0@end:IO/src",
        "--control",
        "norm",
        "--seeds",
        "1000000000",
    ),
    of_command("no points of curves", "points is 0; give a number from 1 to 10000", "circuit", "gone", "--points", "0"),
    of_command("curves of no seeds", "seeds is -1; give a number from 1 to 10000", "circuit", "gone", "--seeds", "-1"),
    of_command(
        "a firing that is none",
        'root "9.9@end:IO": the model has no head 9.9',
        "characterise",
        *GIVEN,
        "--firing",
        "9.9@end:IO",
    ),
    of_command(
        "pairs below nought", "--most-pairs is -1; give 0 or more", "characterise", *GIVEN, "--most-pairs", "-1"
    ),
    of_command(
        "names that are not UTF-8",
        "names.txt: cannot be read (",
        "characterise",
        *GIVEN,
        "--names",
        "names.txt",
        files={**FILES, "names.txt": b"\xff"},
    ),
    of_command(
        "names that are no tokens",
        'names.txt line 2: "Mary John" is not one token',
        "characterise",
        *GIVEN,
        "--names",
        "names.txt",
        files={**FILES, "names.txt": "Mary\nMary John\n"},
    ),
    of_command(
        "names that are ids beyond",
        f'names.txt line 1: "{MANY[:20]}',
        "characterise",
        *GIVEN,
        "--names",
        "names.txt",
        files={**FILES, "names.txt": MANY},
    ),
    of_command(
        "roles that are no names",
        '--names S1,S2: no such file, and no prompt has a role "S1"; they have IO, end',
        "characterise",
        *GIVEN,
        "--names",
        "S1,S2",
    ),
    of_command("a swap of one role", '--swap is "S2"; give ROLE=ROLE', "patch", *GIVEN, "--swap", "S2"),
    of_command(
        "a swap of unknown roles",
        'prompt 0: has no role "S2" to swap (its roles: IO, end)',
        "patch",
        *GIVEN,
        "--swap",
        "S2=IO",
    ),
    of_command(
        "twins of another number",
        "2 corrupted prompts for 1; give one for each",
        "patch",
        *GIVEN,
        "--corrupt",
        "two.jsonl",
        files={**FILES, "two.jsonl": PROMPTS * 2},
    ),
    of_command(
        "twins of another length",
        "prompt 0: has 4 tokens, its corrupted twin 2; give twins",
        "patch",
        *GIVEN,
        "--corrupt",
        "two.jsonl",
        files={**FILES, "two.jsonl": [{"tokens": [1, 2]}]},
    ),
    of_command(
        "an option that is none",
        "unrecognized options: --thresold, 1; did you mean --threshold?",
        "trace",
        *GIVEN,
        "--thresold",
        "1",
    ),
    of_command("an option of control characters", "unrecognized options: --\\x1b[2J", "trace", *GIVEN, "--\x1b[2J"),
    of_command("a command that is none", "unrecognized options: trcae; did you mean trace?", "trcae"),
    of_command("no command", "expected one of {demo, tokens"),
    of_command(
        "a seed beyond any",
        "error parsing --seed: Exceeds the limit (4300 digits)",
        "trace",
        *GIVEN,
        "--seed",
        "1" + "0" * 5000,
    ),
    of_command("truth of nothing", "gone/truth.json: cannot be read (No such file", "score-truth", "gone"),
    of_command(
        "truth that is no JSON",
        "model/truth.json: not valid JSON (",
        "score-truth",
        "model",
        files={"model/truth.json": "{"},
    ),
    of_command(
        "truth that is a list",
        "model/truth.json: expected roots, edges",
        "score-truth",
        "model",
        files={"model/truth.json": "[]"},
    ),
    of_command(
        "truth of huge shares",
        "model/truth.json: expected roots, edges",
        "score-truth",
        "model",
        files={"model/truth.json": {"roots": "all", "edges": [WIRE | {"share": 10**400}], "signals": [[[1]]]}},
    ),
]
VARIABLES = [
    Case(f"{name} {value}", ("trace", *GIVEN), said, FILES, before=setting(name, value), also=also)
    for name, value, said, also in [
        ("SVDTRACE_CACHE_GB", "lots", "SVDTRACE_CACHE_GB is lots; give a number of gigabytes", ()),
        ("SVDTRACE_CACHE_GB", "-1", "SVDTRACE_CACHE_GB is -1; give a number of gigabytes", ()),
        ("SVDTRACE_CACHE_GB", "nan", "SVDTRACE_CACHE_GB is nan; give a number of gigabytes", ()),
    ]
]
CASES = [*RANGES, *OF_FILES, *ROOTS, *EDGES, *TARGETS, *OTHERS, *VARIABLES]

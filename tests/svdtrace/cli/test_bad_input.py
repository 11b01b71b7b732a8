"""Whatever is wrong: exit status 2 and one line on standard error that says what, where, and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from svdtrace import cli
from svdtrace.cli import main
from svdtrace.cli.parser import COMMANDS

Run = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that must fail, in an empty folder; gives what its one line says after `error: `."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        status = main(arguments)
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert sorted(tmp_path.rglob("*")) == before, "a failed command leaves nothing behind"
        return err.removeprefix("error: ").rstrip("\n")

    return run


OPTIONS = [
    ([], f"expected one of {{{', '.join(COMMANDS)}}}; see svdtrace --help"),
    (["trac"], "unrecognized options: trac; did you mean trace? see svdtrace --help"),
    (["xyz"], "unrecognized options: xyz; see svdtrace --help"),
    (
        ["trace", "--thresold", "1"],
        "unrecognized options: --thresold, 1; did you mean --threshold? see svdtrace trace --help",
    ),
    (["trace", "--out"], "missing value for argument '--out'. Expected 1 values; see svdtrace trace --help"),
    (
        ["trace", "--tau", "high"],
        "error parsing --tau: could not convert string to float: 'high'; see svdtrace trace --help",
    ),
    (
        ["trace", "--threshold", "high"],
        "error parsing --threshold: expected X|dynamic, found 'high'; see svdtrace trace --help",
    ),
    (
        ["trace", "--method", "papers"],
        "invalid choice 'papers' for argument '--method'. Expected one of ('paper', 'all', 'exact', 'relative'); "
        "see svdtrace trace --help",
    ),
    (
        ["trace", "--batch-size", "1.5"],
        "error parsing --batch-size: expected N|auto, found '1.5'; see svdtrace trace --help",
    ),
    (["trace", "--threshold", "-1"], "threshold is -1.0; it must be above 0 and at most 1"),
    (["trace", "--batch-size", "0"], "batch_size is 0; give a whole number of prompts, 1 or more, or auto"),
    (["trace", "stray"], "unrecognized options: stray; see svdtrace trace --help"),
    (["graph"], "missing from svdtrace graph: DIR Folder of a trace or a sweep. (required); see svdtrace graph --help"),
    (["graph", "a" * 300, "b"], "unrecognized options: b; see svdtrace graph --help"),
    (
        ["trace", "--config", "no.json"],
        "no.json: no such file; give a JSON file of settings or a trace's manifest.json",
    ),
    (
        ["trace", "--config=no.json"],
        "no.json: no such file; give a JSON file of settings or a trace's manifest.json",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), OPTIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_options(told: Run, arguments: list[str], said: str):
    assert told(*arguments) == said


PROMPTS = [
    (None, "prompts.jsonl: no such file; give a .jsonl"),
    ("", "prompts.jsonl: holds no prompts; give at least one"),
    (
        '{"tokens": [1]}\n{"tokens": [1, 23]}',
        "prompts.jsonl line 2: token 23 at position 1 is outside the model's vocabulary",
    ),
    (
        '{"tokens": [' + "1, " * 16 + "1]}",
        "prompts.jsonl line 1: the prompt has 17 tokens, but the model reads at most 16",
    ),
    (
        '{"tokens": [1, 2], "roles": {"S2": 41}}',
        'prompts.jsonl line 1: role "S2" is position 41, but the prompt has 2 tokens',
    ),
    ('{"text": "Mary"}', 'prompts.jsonl line 1: "text" is given, but the model has no tokenizer; give "tokens" (ids)'),
    ('{"tokens": [1], "id": "a"}\n{"tokens": [2], "id": "a"}', 'prompts.jsonl line 2: id "a" was used before, at'),
]


@pytest.mark.parametrize(("content", "said"), PROMPTS, ids=[said for _, said in PROMPTS])
@pytest.mark.parametrize("command", ["tokens", "trace"])
def test_wrong_prompts(told: Run, model_folder: Path, command: str, content: str | None, said: str):
    if content is not None:
        Path("prompts.jsonl").write_text(content)
    assert told(command, "--model", str(model_folder), "--prompts", "prompts.jsonl").startswith(said)


MODEL = [
    ([], "no prompts are given; give --prompts FILE, --prompts ioi:64 or --text"),
    (["--text", "Mary"], 'text 1: "text" is given, but the model has no tokenizer; give "tokens" (ids)'),
    (["--prompts", "ioi:4"], "ioi: sentences need a tokenizer, and the model has none; give prompts as token ids"),
    (["--prompts", "ioi:x"], "ioi:x: expected ioi:N[:SEED] with whole numbers, such as ioi:64"),
    (["--text", "a", "--seed", "-1"], "--seed is -1; give 0 or more"),
]


@pytest.mark.parametrize(("arguments", "said"), MODEL, ids=[said for _, said in MODEL])
def test_what_a_model_cannot_take(told: Run, model_folder: Path, arguments: list[str], said: str):
    assert told("trace", "--model", str(model_folder), *arguments).startswith(said)


ROOTS = [
    ("9.6@end:IO", 'root "9.6@end:IO": the model has no head 9.6'),
    ("2.1@end:S2", 'root "2.1@end:S2": no prompt has a role "S2"'),
    ("2.1", 'root "2.1" is not of the form LAYER.HEAD@DEST:SRC'),
]


@pytest.mark.parametrize(("roots", "said"), ROOTS)
def test_wrong_roots(told: Run, model_folder: Path, prompt_file: Path, roots: str, said: str):
    arguments = ["trace", "--model", str(model_folder), "--prompts", str(prompt_file), "--roots", roots]
    assert told(*arguments).startswith(said)


def test_damaged_models(told: Run, model_folder: Path, tmp_path: Path):
    for name in ("nowhere", "whole", "truncated"):
        if name != "nowhere":
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    weights = (model_folder / "model.safetensors").read_bytes()
    (tmp_path / "truncated" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (tmp_path / "whole" / "model.safetensors").write_bytes(weights)
    shape = json.loads((model_folder / "config.json").read_text())
    del shape["n_head"]
    (tmp_path / "whole" / "config.json").write_text(json.dumps(shape))
    assert told("decompose", "--model", "./nowhere").startswith("./nowhere: no such folder")
    assert told("decompose", "--model", "truncated").startswith("truncated/model.safetensors: ")
    assert (
        told("decompose", "--model", "whole") == "whole/config.json: lacks n_head; add what the model was trained with"
    )


def test_a_model_with_heads_alone_is_not_enough_for_a_trace(told: Run, shared: Path):
    said = told("trace", "--model", str(shared / "gpt2"), "--text", "Mary")
    assert "missing wte.weight, and in all 12 layers mlp.c_fc.weight, mlp.c_proj.weight" in said


@pytest.mark.parametrize("command", ["trace", "decompose", "demo"])
def test_a_folder_of_others_is_refused_before_the_work(told: Run, tmp_path: Path, command: str):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("precious")
    said = told(command, "--model", "nowhere", "--out", "thesis")
    assert said.startswith("thesis: holds files that are no result of svdtrace")
    assert told(command, "--out", "thesis/thesis.tex").startswith("thesis/thesis.tex: is a file, not a folder")
    assert told(command, "--out", "/proc/out").startswith("/proc/out: cannot be written to")


@pytest.mark.parametrize("command", ["graph", "report"])
def test_a_folder_without_a_trace(told: Run, tmp_path: Path, command: str):
    assert told(command, "nowhere").startswith("nowhere: holds no trace")
    (tmp_path / "empty").mkdir()
    assert told(command, "empty").startswith("empty: holds no trace")


@pytest.mark.whole
def test_a_damaged_trace(told: Run, traced: Path, tmp_path: Path):
    for path in traced.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "edges.parquet").write_bytes(b"PAR1")
    assert told("graph", str(tmp_path)).startswith(f"{tmp_path}/edges.parquet: cannot be read")


@pytest.mark.parametrize("command", ["graph", "report"])
def test_the_trace_that_is_read_is_not_written_over(told: Run, traced: Path, command: str):
    before = {path.name for path in traced.iterdir()}
    for out in (traced, traced.parent):
        assert told(command, str(traced), "--out", str(out)).endswith(
            "holds the trace that is read; name another folder, or a file, with --out"
        )
    assert {path.name for path in traced.iterdir()} == before


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (
            KeyError("x"),
            2,
            "error: unforeseen KeyError: 'x'; this is a defect of svdtrace, SVDTRACE_DEBUG=1 shows where\n",
        ),
        (PermissionError(13, "Permission denied", "a.json"), 2, "error: a.json: Permission denied\n"),
        (MemoryError(), 2, "error: out of memory; give fewer or shorter prompts, or a smaller --batch-size\n"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: 1 GB"),
            2,
            "error: out of memory; give fewer or shorter prompts, or a smaller",
        ),
        (KeyboardInterrupt(), 130, "interrupted; nothing unfinished was kept\n"),
    ],
)
def test_what_nobody_foresaw(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, said: str
):
    def fail(arguments: list[str]) -> int:
        raise raised

    monkeypatch.setattr(cli, "_run", fail)
    assert main(["trace"]) == status
    assert capsys.readouterr().err.startswith(said)

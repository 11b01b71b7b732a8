"""`weights-tools download`: a hub on loopback stands for huggingface.co; huggingface_hub reads its settings when it is
imported, so that commands run in processes of their own, several in each.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints.folders import write_folder
from checkpoints.hub_server import Hub, git_hash, serve

from weights_tools.cli import main

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hf_right"
COMMANDS = """
import contextlib, io, json, sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 1024  # what of a piece has come is lost with the connection; by default it is 10 MB
from weights_tools.cli import main
for line in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["download", *json.loads(line)])
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""
TOKENIZERS = {
    "words": {"vocab.txt": b"a\nb\n", "special_tokens_map.json": b"{}"},
    "pairs": {"vocab.json": b"{}", "merges.txt": b"", "tokenizer_config.json": b"{}", "added_tokens.json": b"{}"},
    "pieces": {"spiece.model": b"\0", "tokenizer.json": b"{}"},
    "none": {},
}


def run_commands(home: Path, *commands: list[str], **environment: str) -> list[tuple[int, str, str]]:
    """Status, standard output and standard error of downloads, one after another in one process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *map(json.dumps, commands)],
        cwd=ROOT,
        env=clean | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def refused(outcome: tuple[int, str, str], message: str) -> None:
    status, out, err = outcome
    error = err.splitlines()[-1]
    assert (status, out) == (2, "")
    assert error.startswith("error: ")
    assert message in error


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = write_folder(tmp_path_factory.mktemp("hub") / "model")
    main_files = {path.name: path.read_bytes() for path in folder.iterdir()}
    shards = write_folder(tmp_path_factory.mktemp("hub") / "shards", n_shards=2)
    models = {f"owner/{kind}": {"main": main_files | files} for kind, files in TOKENIZERS.items()}
    models |= {f"owner/{name}": {"main": main_files} for name in ("broken", "damaged", "lost", "private", "gated")}
    models["owner/sharded"] = {"main": {path.name: path.read_bytes() for path in shards.iterdir()}}
    models["owner/pickle"] = {"main": {"config.json": b"{}", "pytorch_model.bin": b"\x80"}}
    private, gated = frozenset({"owner/private"}), frozenset({"owner/gated"})
    with serve(Hub(models, private=private, gated=gated, token=TOKEN)) as serving:
        yield serving


@pytest.fixture(scope="module")
def fetched(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str, str]]]:
    """A cache, and what became of every download into it, in this order."""
    home = tmp_path_factory.mktemp("home")
    hub.breaks["/owner/broken/resolve/" + hub.commit("owner/broken", "main") + "/model.safetensors"] = 2
    hub.damaged["/owner/damaged/resolve/" + hub.commit("owner/damaged", "main") + "/model.safetensors"] = 1
    commands = {
        **{kind: [f"owner/{kind}", "--json"] for kind in TOKENIZERS},
        "broken": ["owner/broken", "--out", str(home / "broken")],
        "damaged": ["owner/damaged", "--out", str(home / "damaged")],
        "again": ["owner/damaged", "--json"],
        "sharded": ["owner/sharded", "--out", str(home / "sharded"), "--quiet"],
        "pickle": ["owner/pickle"],
        "private": ["owner/private"],
        "gated": ["owner/gated"],
        "revision": ["owner/none", "--revision", "v7"],
    }
    found = run_commands(home, *commands.values(), HF_ENDPOINT=hub.endpoint)
    return home, dict(zip(commands, found, strict=True))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizer_files_of_every_kind_are_fetched_and_named(hub: Hub, fetched, kind):
    status, out, _ = fetched[1][kind]
    assert status == 0
    found = json.loads(out)
    assert sorted(found["tokenizer"]) == sorted(TOKENIZERS[kind])
    content = hub.models[f"owner/{kind}"]["main"]
    files = {each["name"]: each for each in found["files"]}
    assert files.keys() == content.keys()
    for name, each in files.items():
        large = name.endswith(".safetensors")
        expected = hashlib.sha256(content[name]).hexdigest() if large else git_hash(content[name])
        assert (each["kind"], each["digest"], each["n_bytes"]) == (
            *("sha256" if large else "git", expected),
            len(content[name]),
        )
        assert (Path(found["folder"]) / name).read_bytes() == content[name]
    assert found["commit"] == hub.commit(f"owner/{kind}", "main")


def test_a_broken_connection_is_taken_up_where_it_broke(hub: Hub, fetched):
    home, outcomes = fetched
    status, out, _ = outcomes["broken"]
    assert status == 0
    content = hub.models["owner/broken"]["main"]
    assert {path.name: path.read_bytes() for path in (home / "broken").iterdir()} == content
    length = len(content["model.safetensors"])
    # Half of what was asked for came each time, and whole pieces of it were kept.
    first = length // 2 // 1024 * 1024
    second = first + (length - first) // 2 // 1024 * 1024
    assert [f"bytes={first}-", f"bytes={second}-"] == hub.ranges
    assert second > first > 0
    assert "2 of 2 files checked" in out
    assert f"in {home / 'broken'}" in out


def test_a_wrong_hash_is_refused_and_fetched_anew(hub: Hub, fetched):
    home, outcomes = fetched
    refused(outcomes["damaged"], "owner/damaged: model.safetensors has the SHA-256 ")
    assert "it is taken out of the cache: run the command again" in outcomes["damaged"][2]
    assert not (home / "damaged").exists()
    assert outcomes["again"][0] == 0
    folder = Path(json.loads(outcomes["again"][1])["folder"])
    assert (folder / "model.safetensors").read_bytes() == hub.models["owner/damaged"]["main"]["model.safetensors"]


def test_shards_and_silence(hub: Hub, fetched):
    home, outcomes = fetched
    assert outcomes["sharded"] == (0, "", "")
    assert {path.name: path.read_bytes() for path in (home / "sharded").iterdir()} == hub.models["owner/sharded"][
        "main"
    ]


def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(hub: Hub, fetched):
    outcomes = fetched[1]
    refused(outcomes["private"], "check the name, or log in if it is private")
    refused(outcomes["gated"], "log in with `hf auth login`")
    refused(outcomes["revision"], "at revision 'v7': the hub has no such revision")
    refused(outcomes["pickle"], "pickle files can run code and are never opened")


def test_offline_what_is_in_the_cache_is_checked_and_copied(hub: Hub, fetched, tmp_path):
    home, before = fetched[0], len(hub.requests)
    commands = [["owner/words", "--out", str(tmp_path / "words"), "--json"], ["owner/private"]]
    words, private = run_commands(home, *commands, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert words[0] == 0
    assert (tmp_path / "words" / "vocab.txt").read_bytes() == b"a\nb\n"
    assert all(each["kind"] for each in json.loads(words[1])["files"])
    refused(private, "not in the cache")
    assert "HF_HUB_OFFLINE is set; fetch it while online" in private[2]
    assert len(hub.requests) == before


@pytest.mark.full
def test_a_private_model_with_its_token(hub: Hub, tmp_path):
    commands = [["owner/private", "--out", str(tmp_path / "private")]]
    assert run_commands(tmp_path, *commands, HF_ENDPOINT=hub.endpoint, HF_TOKEN=TOKEN)[0][0] == 0
    assert (tmp_path / "private" / "model.safetensors").exists()


@pytest.mark.full
def test_a_wrong_token_and_a_hub_that_is_not_there(hub: Hub, tmp_path):
    (wrong,) = run_commands(tmp_path, ["owner/private"], HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_wrong")
    refused(wrong, "does not accept the token at hand (HTTP 401); log in with `hf auth login`, or correct HF_TOKEN")
    (away,) = run_commands(tmp_path, ["owner/none"], HF_ENDPOINT="http://127.0.0.1:9")
    refused(away, "cannot be reached; check the network")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["a/b/c"], "no hub id"), (["owner/model@v1", "--revision", "v2"], "names the revision 'v1'"), ([], "ID")],
)
def test_ids_that_are_none(capsys, arguments, message):
    assert main(["download", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_holds_something_is_refused_before_anything_is_fetched(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["download", "owner/none", "--out", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err

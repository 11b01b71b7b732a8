"""Sources: folders, hub ids through the cache, offline mode; a hub on loopback stands for huggingface.co."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints.folders import CONFIG, tensors, write_folder
from checkpoints.hub_server import Hub, serve

from gpt2jax.errors import SourceError
from gpt2jax.hub import Found, find_model

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_right"
# One line a source, "SOURCE REVISION": what became of it.
LOAD = """
import sys
import gpt2jax
for argument in sys.argv[1:]:
    source, _, revision = argument.partition(" ")
    try:
        model = gpt2jax.load(source, revision=revision or None)
        origin = model.origin
        print(repr(float(model.params.W_E[0, 0])), *filter(None, (origin.hub_id, origin.revision, origin.commit)))
    except gpt2jax.errors.GPT2JaxError as error:
        print(type(error).__name__, error)
"""


def load_in_subprocess(home: Path, *sources: str, **environment: str) -> list[str]:
    """Load each source in a process of its own, whose caches lie in `home`; one line of output each."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD, *sources],
        cwd=ROOT,
        env=clean | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == len(sources), lines
    return lines


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def first_weight(scale: int) -> str:
    return repr(float(tensors()["transformer.wte.weight"][0, 0] * scale))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("repositories")
    old, pull = ({name: tensor * scale for name, tensor in tensors().items()} for scale in (2, 3))
    main = files_of(write_folder(folder / "main"))
    pickle = {"config.json": main["config.json"], "pytorch_model.bin": b"\x80"}
    models = {
        "owner/small": {
            "main": main
            | {"pytorch_model.bin": b"\x80", "onnx/model.safetensors": b"", "README.md": b"", "flax.py": b""},
            "v1": files_of(write_folder(folder / "old", old)),
            "refs/pr/1": files_of(write_folder(folder / "pull", pull)),
        },
        "owner/sharded": {"main": files_of(write_folder(folder / "sharded", n_shards=2)) | {"model.bin": b"\x80"}},
        "owner/pickle": {"main": pickle},
        "owner/gated": {"main": main},
        "owner/private": {"main": main},
        "owner/adapter": {"main": {"adapter_config.json": b"{}", "adapter_model.safetensors": b""}},
        "owner/broken": {"main": main},
    }
    gated, broken, private = (frozenset({f"owner/{kind}"}) for kind in ("gated", "broken", "private"))
    with serve(Hub(models, gated=gated, broken=broken, private=private, token=TOKEN)) as serving:
        yield serving


def expected(hub: Hub, scale: int, model: str, revision: str = "") -> str:
    """What `LOAD` prints of a model whose first weight is `scale` times the usual one."""
    commit = hub.commit(model, revision or "main")
    return " ".join(filter(None, (first_weight(scale), model, revision, commit)))


# What is asked for, and what is loaded then: scale of its weights, model, revision.
FETCHED = {
    "owner/small": (1, "owner/small"),
    "owner/small v1": (2, "owner/small", "v1"),
    "owner/small@refs/pr/1": (3, "owner/small", "refs/pr/1"),
    "owner/sharded": (1, "owner/sharded"),
}


@pytest.fixture(scope="module")
def home(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which a model, an older revision of it and a sharded model were fetched."""
    home = tmp_path_factory.mktemp("home")
    found = load_in_subprocess(home, *FETCHED, HF_ENDPOINT=hub.endpoint)
    assert found == [expected(hub, *each) for each in FETCHED.values()]
    return home


def test_only_what_is_read_is_fetched(hub: Hub, home: Path):
    fetched = {request.rpartition("/")[2] for request in hub.requests if request.startswith("GET /owner/")}
    shards = {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    assert fetched == {"config.json", "model.safetensors", "model.safetensors.index.json"} | shards
    assert not any("onnx" in request for request in hub.requests)


def test_offline_answers_from_the_cache_alone(hub: Hub, home: Path):
    before = len(hub.requests)
    sources = (*FETCHED, "owner/other", "owner/small@v2")
    *found, other, v2 = load_in_subprocess(home, *sources, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert found == [expected(hub, *each) for each in FETCHED.values()]
    assert other.startswith(f"SourceError owner/other: not in the cache {home}/hub, and HF_HUB_OFFLINE is set;")
    assert v2.startswith("SourceError owner/small at revision 'v2': not in the cache")
    assert len(hub.requests) == before


def test_unreachable_hub(home: Path):
    # A port that nothing listens on: reserved, and never given out.
    cached, other = load_in_subprocess(home, "owner/small", "owner/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert cached.startswith(first_weight(1))
    assert other.startswith("SourceError owner/other: no such folder, and http://127.0.0.1:9 cannot be reached;")


def test_what_the_hub_refuses(hub: Hub, tmp_path: Path):
    expected = {
        "owner/small v3": "SourceError owner/small at revision 'v3': the hub has no such revision;",
        "owner/none": f"SourceError owner/none: no such folder, and no model of that name at {hub.endpoint};",
        "owner/gated": f"SourceError owner/gated: access is restricted; ask for it at {hub.endpoint}/owner/gated",
        "owner/broken": f"SourceError owner/broken: {hub.endpoint} answered with an error (HTTP 500);",
        "owner/private": f"SourceError owner/private: no such folder, and no model of that name at {hub.endpoint};",
        "owner/adapter": "CheckpointError owner/adapter: holds an adapter without the model that it belongs to;",
        "owner/pickle": "CheckpointError owner/pickle: holds pytorch_model.bin but no model.safetensors;",
    }
    found = load_in_subprocess(tmp_path, *expected, HF_ENDPOINT=hub.endpoint)
    for line, start in zip(found, expected.values(), strict=True):
        assert line.startswith(start)


@pytest.mark.whole
def test_private_models_need_the_right_token(hub: Hub, tmp_path: Path):
    right, wrong = (
        load_in_subprocess(tmp_path / token, "owner/private", HF_ENDPOINT=hub.endpoint, HF_TOKEN=token)[0]
        for token in (TOKEN, "hf_wrong")
    )
    assert right == expected(hub, 1, "owner/private")
    assert wrong.startswith(
        f"SourceError owner/private: {hub.endpoint} does not accept the token at hand (HTTP 401); log in"
    )


def test_local_folder_never_touches_the_network(hub: Hub, tmp_path: Path):
    before = len(hub.requests)
    folder = str(write_folder(tmp_path / "owner" / "small"))
    assert load_in_subprocess(tmp_path, folder, HF_ENDPOINT=hub.endpoint) == [first_weight(1)]
    assert len(hub.requests) == before


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "owner" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("owner/small") == Found(Path("owner/small"))
    assert find_model(tmp_path) == Found(tmp_path)
    (tmp_path / "owner" / "small@v1").mkdir()
    assert find_model("owner/small@v1") == Found(Path("owner/small@v1"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "no such folder, and no hub id"),
        ("./missing", "no such folder, and no hub id"),
        ("/missing/model", "no such folder, and no hub id"),
        ("a/b/c", "no such folder, and no hub id"),
        ("white space", "no such folder, and no hub id"),
        ("../up", "no such folder, and no hub id"),
        ("../up@v1", "no such folder, and no hub id"),
        ("@v1", "no such folder, and no hub id"),
        ("owner/small@", "owner/small: its revision is empty"),
        (Path("owner/small"), "no such folder, and no hub id"),
        ("x" * 5000, "no folder's name"),
        ("~nobody-of-that-name/model", "no folder's name"),
    ],
)
def test_neither_folder_nor_hub_id(source: str | Path, expected: str):
    with pytest.raises(SourceError) as caught:
        find_model(source)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_instead_of_folder(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    with pytest.raises(SourceError, match="is a file; give the folder"):
        find_model(path)


def test_folders_have_no_revisions(tmp_path: Path):
    for source, revision in ((tmp_path, "v1"), (f"{tmp_path}@v1", None)):
        with pytest.raises(SourceError, match="is a folder, which has no revision 'v1'"):
            find_model(source, revision=revision)


def test_one_revision(hub: Hub):
    with pytest.raises(SourceError, match="names the revision 'v1', and 'v2' is asked for"):
        find_model("owner/small@v1", revision="v2")
    with pytest.raises(SourceError, match="owner/small: its revision is empty"):
        find_model("owner/small", revision="")

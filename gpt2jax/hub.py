"""From a source to a model folder: a local folder as it is, a hub id through huggingface_hub and its cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2jax.errors import CheckpointError, SourceError
from gpt2jax.layout import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE
from gpt2jax.tokenizer_files import TOKENIZER_FILES
from gpt2jax.weight_files import ADAPTER_CONFIG, no_weights, shard_names

_ALLOWED = (CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, ADAPTER_CONFIG, *TOKENIZER_FILES)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Found:
    """Where a model lies. What is not the folder is `None` unless it came from the hub."""

    folder: Path
    hub_id: str | None = None
    revision: str | None = None
    commit: str | None = None


def find_model(source: str | Path, revision: str | None = None) -> Found:
    """The local folder that holds a model.

    Args:
        source: a folder, or a Hugging Face hub id (`gpt2`, `openai-community/gpt2`), to which a revision may be added
            (`gpt2@v1`). A folder of that name wins.
        revision: branch, tag or commit of a hub id.

    Returns:
        The folder itself, or the hub's snapshot in huggingface_hub's cache, with no other files fetched than those that
        are read, and the commit that it is.

    Raises:
        SourceError: neither a folder nor a hub id that can be fetched.
        CheckpointError: a hub id without safetensors weights.
    """
    folder = _local_folder(source)
    if folder is not None:
        if revision is not None:
            raise SourceError(f"{source}: is a folder, which has no revision {revision!r}; leave the revision out")
        return Found(folder)
    if isinstance(source, str) and "@" in source:
        return find_model(*_id_and_revision(source, revision))
    if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
        shown = str(source) or "an empty name"
        raise SourceError(f"{shown}: no such folder, and no hub id (NAME or OWNER/NAME) either; give one of the two")
    return fetch(source, revision)


def fetch(source: str, revision: str | None = None) -> Found:
    """A model of the hub, whatever folders there are: its snapshot in huggingface_hub's cache.

    Args:
        source: a hub id, to which a revision may be added.
        revision: branch, tag or commit.

    Raises:
        SourceError, CheckpointError: see `find_model`.
    """
    if "@" in source:
        source, revision = _id_and_revision(source, revision)
    if not _HUB_ID.fullmatch(source):
        raise SourceError(f"{source}: no hub id; give NAME or OWNER/NAME, as openai-community/gpt2")
    if revision is not None and not revision.strip():
        raise SourceError(f"{source}: its revision is empty; name a branch, tag or commit, or leave it out")
    snapshot = _snapshot(source, revision)
    return Found(snapshot, source, revision, snapshot.name)


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that are fetched of a model, config.json first.

    Raises:
        CheckpointError: a damaged index of shards.
    """
    names = [name for name in _ALLOWED if (folder / name).is_file()]
    if INDEX_FILE in names and WEIGHTS_FILE not in names:
        names += sorted(set(shard_names((folder / INDEX_FILE).read_bytes(), folder / INDEX_FILE).values()))
    return [folder / name for name in names]


def _id_and_revision(source: str, revision: str | None) -> tuple[str, str]:
    name, _, at = source.partition("@")
    if revision not in (None, at):
        raise SourceError(f"{source}: names the revision {at!r}, and {revision!r} is asked for; give one of them")
    return name, at


def _local_folder(source: str | Path) -> Path | None:
    try:
        folder = Path(source).expanduser()
        is_folder, is_there = folder.is_dir(), folder.exists()
    except (OSError, RuntimeError) as failure:
        raise SourceError(f"{source}: no folder's name ({failure}); give a folder or a hub id") from failure
    if is_there and not is_folder and str(source):
        raise SourceError(f"{source}: is a file; give the folder that holds {CONFIG_FILE} and the weights")
    return folder if is_folder and str(source) else None


def _snapshot(hub_id: str, revision: str | None) -> Path:
    folder = _fetched(hub_id, revision, _ALLOWED)
    if (folder / WEIGHTS_FILE).exists():
        return folder
    if not (folder / INDEX_FILE).exists():
        raise CheckpointError(no_weights(hub_id, _repository_files(hub_id, folder)))
    shards = set(shard_names((folder / INDEX_FILE).read_bytes(), folder / INDEX_FILE).values())
    # The commit at hand: a branch may have moved on since the index was fetched.
    return _fetched(hub_id, folder.name, sorted(shards))


def _repository_files(hub_id: str, snapshot: Path) -> list[str]:
    """All that a repository holds, or as much of it as was fetched where the hub does not tell."""
    import huggingface_hub

    try:
        return huggingface_hub.list_repo_files(hub_id, revision=snapshot.name)
    except Exception:  # see _fetched; what went wrong is told anyway, by the caller
        return [path.name for path in snapshot.iterdir()]


def _fetched(hub_id: str, revision: str | None, files: tuple[str, ...] | list[str]) -> Path:
    # Imported here: a local folder needs no network library.
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, allow_patterns=list(files), tqdm_class=_quiet_off_terminal()
            )
        )
    except Exception as failure:  # beneath huggingface_hub lie HTTP libraries that change with its version
        raise SourceError(_reason(hub_id, revision, failure)) from failure


def _quiet_off_terminal() -> type:
    """huggingface_hub's progress bar, which draws nothing where standard error is no terminal."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **({"disable": None} | kwargs))

    return Bar


def _reason(hub_id: str, revision: str | None, failure: Exception) -> str:
    from huggingface_hub import constants, errors

    at = hub_id if revision is None else f"{hub_id} at revision {revision!r}"
    hub = constants.ENDPOINT
    if isinstance(failure, errors.RevisionNotFoundError):
        return f"{at}: the hub has no such revision; see {hub}/{hub_id}/tree/main for those it has"
    if isinstance(failure, errors.GatedRepoError):
        return f"{at}: access is restricted; ask for it at {hub}/{hub_id} and log in with `hf auth login`"
    if isinstance(failure, errors.RepositoryNotFoundError):
        return f"{at}: no such folder, and no model of that name at {hub}; check the name, or log in if it is private"
    if isinstance(failure, errors.LocalEntryNotFoundError) and isinstance(failure.__cause__, errors.HfHubHTTPError):
        failure = failure.__cause__
    if isinstance(failure, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return f"{at}: not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; fetch it while online"
        return f"{at}: no such folder, and {hub} cannot be reached; check the network or give a local folder"
    if isinstance(failure, errors.HfHubHTTPError):
        status = failure.response.status_code
        if status in (401, 403):
            refused = f"{hub} does not accept the token at hand (HTTP {status})"
            return f"{at}: {refused}; log in with `hf auth login`, or correct HF_TOKEN"
        return f"{at}: {hub} answered with an error (HTTP {status}); try again later or give a local folder"
    text = " ".join(str(failure).split()) or type(failure).__name__
    return f"{at}: cannot be fetched from {hub} ({text}); try again or give a local folder"

"""A server on loopback that speaks the part of the hub's protocol that fetching a model needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


@dataclass
class Hub:
    """Models by id, each with its files by revision name; private ones are there for `token` alone.

    `requests` holds every request that was answered, `METHOD path`, and `ranges` what `Range` asked for. `breaks` says
    of a model's file how often its body ends half-way; `damaged` files are sent with one byte wrong, as often as said.
    """

    models: dict[str, dict[str, dict[str, bytes]]]
    gated: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    token: str = ""
    breaks: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, model: str, revision: str) -> str | None:
        """The commit that a branch or a commit id stands for."""
        for name in self.models[model]:
            commit = hashlib.sha1(f"{model}@{name}".encode()).hexdigest()
            if revision in (name, commit):
                return commit
        return None

    def files(self, model: str, commit: str) -> dict[str, bytes]:
        """The files of a commit."""
        return next(files for name, files in self.models[model].items() if self.commit(model, name) == commit)

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path and the token that was sent along."""
        model = next((name for name in self.models if f"/{name}/" in path), None)
        allowed = authorization == f"Bearer {self.token}"
        if authorization is not None and not allowed:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"Invalid credentials."
        if model is None or (model in self.private and not allowed):
            return 401, {"X-Error-Code": "RepoNotFound"}, b"Invalid username or password."
        if model in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"Access is restricted."
        if model in self.broken:
            return 500, {}, b"Something broke."
        _, _, rest = path.partition(f"/{model}/")
        action, _, rest = rest.partition("/")
        revision, _, name = rest.partition("/")
        revision = unquote(revision)
        commit = self.commit(model, revision)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"Invalid rev id."
        files = self.files(model, commit)
        if action == "revision":
            info = {"id": model, "modelId": model, "sha": commit, "private": False, "downloads": 0, "tags": []}
            return 200, {}, json.dumps(info | {"siblings": [{"rfilename": file} for file in files]}).encode()
        if action == "tree":
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": git_hash(content)}
                for file, content in files.items()
            ]
            return 200, {}, json.dumps(entries).encode()
        if action == "resolve" and name in files:
            content = files[name]
            large = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
            linked = large if name.endswith(".safetensors") else {}
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'} | linked, content
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"Entry not found."


def git_hash(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def taken(left: dict[str, int], path: str) -> bool:
    """Whether one of what is left to be done to files concerns this path; it is then done once less."""
    name = next((each for each, times in left.items() if times and path.endswith(each)), None)
    if name is not None:
        left[name] -= 1
    return name is not None


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub at `hub.endpoint` while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlparse(self.path).path
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = hub.answer(path, self.headers.get("Authorization"))
            wanted = self.headers.get("Range")
            if status == 200 and wanted is not None and self.command != "HEAD":
                hub.ranges.append(wanted)
                first = int(wanted.removeprefix("bytes=").partition("-")[0])
                status, body = 206, body[first:]
                headers = headers | {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{first + len(body)}"}
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if taken(hub.damaged, path):
                body = body[:-1] + bytes([body[-1] ^ 1])
            if taken(hub.breaks, path):
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

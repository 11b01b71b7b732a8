"""A headless Chromium for tests of pages, driven through its DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
)
TIMEOUT = 60.0


class Page:
    """One tab. `problems` holds what the console, the log and the network said that a good page never says."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._last, self._session = send, receive, b"", 0, None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.seconds = 0.0
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the protocol and wait for its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url: str, width: int = 1440, height: int = 1000, dark: bool = False) -> float:
        """Open an address and return the seconds until its load event, scripts run."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        start = time.perf_counter()
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._next()
        return time.perf_counter() - start

    def run(self, script: str) -> Any:
        """The value of an expression in the page, after what it awaits."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def settle(self) -> None:
        """Wait until what was asked for is drawn and stands in the address."""
        self.run("new Promise((done) => setTimeout(() => requestAnimationFrame(done), 250))")

    def until_ready(self) -> None:
        """Wait until the page says that all is drawn; a page that never does is seen by what is then asked of it."""
        self.run(
            "new Promise((done) => { const end = performance.now() + 15000; const look = () => "
            "document.documentElement.classList.contains('ready') || performance.now() > end ? done() : "
            "setTimeout(look, 10); look(); })"
        )

    def computing(self) -> float:
        """Seconds that the page's process has computed, all of its threads together."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "ProcessTime")

    def press(self, key: str) -> None:
        """A key press on what has the focus."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            known = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
            self.call("Input.dispatchKeyEvent", type=kind, **known, **(text if kind == "keyDown" else {}))

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._receive], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"Chromium said nothing for {TIMEOUT:.0f} s")
            part = os.read(self._receive, 1 << 20)
            if not part:
                raise RuntimeError("Chromium closed the pipe")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str([each.get("value") for each in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start Chromium with a profile of its own, and end it."""
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    # The protocol's pipe is file descriptors 3 and 4, which only a shell's redirections can promise.
    command = f'exec "$0" {FLAGS} --user-data-dir="$1" about:blank 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", command, str(EXECUTABLE), str(profile)],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(ours_out, ours_in)
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(ours_out)
        os.close(ours_in)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if EXECUTABLE is None:
        pytest.skip("needs Chromium or Chrome in the path")
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def opening(chromium: Page, folder: Path) -> Callable[..., Page]:
    """Opens HTML in the browser at some hash, size and colour scheme; nothing is kept from earlier pages."""

    def opened(html: str, fragment: str = "", width: int = 1440, dark: bool = False, height: int = 900) -> Page:
        (folder / "report.html").write_text(html, encoding="utf-8")
        chromium.open("about:blank")
        chromium.problems.clear()
        chromium.requests.clear()
        before = chromium.computing()
        chromium.open(f"{(folder / 'report.html').as_uri()}{fragment}", width, height, dark)
        chromium.until_ready()
        chromium.seconds = chromium.computing() - before
        chromium.settle()
        return chromium

    return opened


@pytest.fixture
def opened(chromium: Page, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    yield opening(chromium, tmp_path)
    # A page that stays open draws on while other tests run. There is one browser: of a module, tests that share a page
    # of `opened_once` stand before those that open one of their own.
    chromium.open("about:blank")


@pytest.fixture(scope="module")
def opened_once(chromium: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Page]]:
    """The same for a page that several tests of a module look at."""
    yield opening(chromium, tmp_path_factory.mktemp("page"))
    chromium.open("about:blank")

"""The pictures of README and docs/ that come from the bundled model, made anew: `python docs/pictures.py`.

`circuit.svg` is the demo's; `page.png` is a photograph of the page of one sentence, by Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SENTENCE = "ioi:1:3"
SIZE = 1440, 860
BROWSERS = "chromium", "chromium-browser", "google-chrome"


def main() -> None:
    """Make them; the photograph stays as it is where there is no browser."""
    from svdtrace.cli import main as svdtrace

    with tempfile.TemporaryDirectory() as folder:
        demo, one = Path(folder) / "demo", Path(folder) / "one"
        for command in (
            ["demo", "--quiet", "--out", str(demo)],
            ["trace", "--quiet", "--prompts", SENTENCE, "--method", "relative", "--out", str(one)],
        ):
            if svdtrace(command):
                sys.exit(2)
        shutil.copyfile(demo / "circuit.svg", DOCS / "circuit.svg")
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            sys.exit(f"page.png is left as it is: none of {', '.join(BROWSERS)} is in the path")
        address = f"{(one / 'report.html').as_uri()}#see={strongest(one)}"
        photograph(browser, address, DOCS / "page.png", Path(folder) / "profile")


def strongest(trace: Path) -> str:
    """The largest line from a head into the key side of a topmost head at the last token, as the address has it."""
    import svdtrace

    edges = svdtrace.read(trace).edges.to_pylist()
    last = max(edge["dest"] for edge in edges)
    lines = [
        edge for edge in edges if edge["dest"] == last and edge["side"] == "src" and edge["writer_head"] is not None
    ]
    best = max(lines, key=lambda edge: (edge["layer"], edge["weight"]))
    return "{writer}:{layer}.{head}@{dest}:{src}/{side}".format(**best)


def photograph(browser: str, address: str, picture: Path, profile: Path) -> None:
    """A PNG of what a screen of `SIZE` shows of a page first."""
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1.5".split()
    size = ",".join(map(str, SIZE))
    places = [f"--user-data-dir={profile}", f"--window-size={size}", f"--screenshot={picture}"]
    command = [browser, *flags, *places, "--virtual-time-budget=8000", address]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


if __name__ == "__main__":
    main()

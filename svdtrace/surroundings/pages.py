"""The pages of docs/ that help names, where they can be opened."""

from __future__ import annotations

from pathlib import Path


def page(name: str) -> Path:
    """Where a page lies: in an installed package beside its modules, in a checkout among docs."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "docs" / name
    return installed if installed.exists() else package.parent / "docs" / name


def reference(told: str, name: str) -> str:
    """A line for a command's help: what a page tells, the page, and a link that opens it."""
    return f"{told}: {page(name).as_uri()}"

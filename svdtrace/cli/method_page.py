"""METHOD.md, where the mathematics of every command stands: which sections, and where the page lies."""

from __future__ import annotations

from pathlib import Path

SECTIONS: dict[str, str] = {
    "demo": "sections 1 to 8",
    "decompose": "sections 1 and 2",
    "atlas": "sections 1 and 2",
    "trace": "sections 1 to 7 and 11 to 14",
    "sweep": "sections 1 to 7 and 11 to 14",
    "graph": "section 8",
    "report": "section 8",
    "circuit": "section 15",
    "characterise": "section 9",
    "intervene": "section 10",
    "reproduce": 'sections 1 to 9, and "The prompts of the paper"',
    "verify": "all sections",
    "score-truth": "sections 1 to 6, 14 and 15",
}
"""What of METHOD.md a command computes, of those that compute something of it."""


def method_page() -> Path:
    """Where METHOD.md lies: in an installed package beside its modules, in a checkout among docs."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "METHOD.md"
    return installed if installed.exists() else package.parent / "docs" / "METHOD.md"


def reference(command: str) -> str:
    """A line for a command's help with a link that opens; empty for a command without mathematics."""
    if command not in SECTIONS:
        return ""
    return f"What is computed: METHOD.md, {SECTIONS[command]}: {method_page().as_uri()}"

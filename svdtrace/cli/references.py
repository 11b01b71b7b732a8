"""Where a command's help points: the sections of METHOD.md with its mathematics, the page that says what it means."""

from __future__ import annotations

from svdtrace.surroundings.pages import reference

SECTIONS: dict[str, str] = {
    "demo": "sections 1 to 8",
    "decompose": "sections 1 and 2",
    "atlas": "sections 1 and 2",
    "trace": "sections 1 to 7 and 11 to 14",
    "why": "sections 1 to 6",
    "sweep": "sections 1 to 7 and 11 to 14",
    "graph": "section 8",
    "report": "section 8",
    "circuit": "section 15",
    "compare": "sections 5, 6 and 14",
    "characterise": "section 9",
    "intervene": "section 10",
    "reproduce": 'sections 1 to 9, and "The prompts of the paper"',
    "verify": "all sections",
    "score-truth": "sections 1 to 6, 14 and 15",
}
"""What of METHOD.md a command computes, of those that compute something of it."""

PAGES: dict[str, str] = {
    "atlas": "atlas.md",
    "why": "one-sentence.md",
    "compare": "relative.md",
    "sweep": "sweeps.md",
    "bench": "costs.md",
    "verify": "verification.md",
    "score-truth": "truth.md",
}
"""The page that says more of a command, of those that have one."""


def references(command: str) -> list[str]:
    """Lines for a command's help with links that open; none for a command without mathematics or a page."""
    lines = []
    if command in SECTIONS:
        lines.append(reference(f"What is computed: METHOD.md, {SECTIONS[command]}", "METHOD.md"))
    if command in PAGES:
        lines.append(reference(f"What it means: {PAGES[command]}", PAGES[command]))
    return lines

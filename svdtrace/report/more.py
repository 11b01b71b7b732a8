"""What a page may lack: which question each further result answers, and the commands that make it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class More:
    """A result that a page may lack: the section that shows it, what it answers, and the commands that make it."""

    part: str
    question: str
    answer: str
    commands: tuple[str, ...]


def more(folder: str, compared: bool) -> tuple[More, ...]:
    """What a page may lack, of a trace in a folder.

    Args:
        folder: the trace's, as it was named.
        compared: whether some prompt has an answer and a distractor, which `circuit` needs.
    """
    # A name that begins with a dash would be an option.
    named = f"./{folder}" if folder.startswith("-") else folder
    here = shlex.quote(named)

    def page(command: str) -> str:
        return f"svdtrace report {here} --with {command}"

    found = (
        More(
            "chance",
            "Would chance give these edges?",
            "Random slices, random bases and exchanged prompts give each edge a p-value; those that fail can be "
            "dropped.",
            (f"svdtrace trace … --fdr 0.05 --out {here}",),
        ),
        More(
            "stability",
            "Do the edges depend on the settings?",
            "Reruns with other settings and precision say how stable each edge is; the circuit shows it by opacity.",
            (f"svdtrace trace … --stability --out {here}",),
        ),
        More(
            "interventions",
            "Does the model need these signals?",
            "Each signal is taken away or doubled, beside random controls, and the change of the output is measured.",
            (f"svdtrace intervene --from {here} --control norm", page("intervene")),
        ),
        More(
            "characterisation",
            "What does each head do?",
            "Where heads fire, through which vectors, and which tokens those pick out, beside ordinary text.",
            ("svdtrace characterise --prompts … --contrast ordinary:64", page("characterise")),
        ),
        More(
            "faithfulness",
            "Is this circuit enough?",
            "How much of the output is left when its edges alone are kept, or when they are removed, beside random "
            "edges.",
            (f"svdtrace circuit {here}", page("circuit")),
        ),
    )
    return found if compared else found[:-1]

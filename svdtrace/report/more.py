"""What a page may lack: which question each further result answers, and the commands that make it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class More:
    """A result that a page may lack: the section that shows it, what it answers, and the commands that make it."""

    part: str
    question: str
    answer: str
    commands: tuple[str, ...]


MORE = (
    More(
        "chance",
        "Would chance give these edges?",
        "Random slices, random bases and exchanged prompts give each edge a p-value; those that fail can be dropped.",
        ("svdtrace trace … --fdr 0.05",),
    ),
    More(
        "stability",
        "Do the edges depend on the settings?",
        "Reruns with other settings and precision say how stable each edge is; the circuit shows it by opacity.",
        ("svdtrace trace … --stability",),
    ),
    More(
        "interventions",
        "Does the model need these signals?",
        "Each signal is taken away or doubled, beside random controls, and the change of the output is measured.",
        ("svdtrace intervene --from trace --control norm", "svdtrace report trace --with intervene"),
    ),
    More(
        "characterisation",
        "What does each head do?",
        "Where heads fire, through which vectors, and which tokens those pick out, beside ordinary text.",
        (
            "svdtrace characterise --prompts ioi:64 --contrast ordinary:64",
            "svdtrace report trace --with characterise",
        ),
    ),
    More(
        "faithfulness",
        "Is this circuit enough?",
        "How much of the output is left when its edges alone are kept, or when they are removed, beside random edges.",
        ("svdtrace circuit trace", "svdtrace report trace --with circuit"),
    ),
)

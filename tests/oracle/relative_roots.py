"""Which heads at which keys are roots under relative attention (METHOD.md, sections 11 and 14.7), prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .circuit import Key, Row, get, key, last_traced, named_roots
from .heads import running_sums, softmax
from .model import Acts, norm_parameters
from .signals import Writer, coverage_cut, direction, share_of_x, writers, written
from .tracing import Model


def output_parts(model: Model, acts: Acts, last: int) -> list[tuple[Writer, int | None, np.ndarray]]:
    """What may be taken out of the output: heads split by b, then the other writers (section 14.7), as r_c."""
    found: list[tuple[Writer, int | None, np.ndarray]] = []
    scale = acts["ln_final_scale"][last]
    for writer in writers(model.config, model.config["n_layers"]):
        if writer.kind == "const":
            continue
        if writer.kind != "head":
            y = written(model.params, acts, writer, last)
            found.append((writer, None, share_of_x(model.params, "ln_final", None, y, scale)))
            continue
        for b in range(last + 1):
            y = acts["v"][writer.layer, b, writer.head] @ model.params["W_O"][writer.layer, writer.head]
            y = acts["pattern"][writer.layer, writer.head, last, b] * y
            found.append((writer, b, share_of_x(model.params, "ln_final", None, y, scale)))
    return found


def wanted_tokens(p: np.ndarray, prompt: Any, targets: str) -> list[int]:
    """The target tokens of a prompt."""
    likeliest = sorted(range(len(p)), key=lambda v: (-p[v], v))
    if targets == "answer":
        return [likeliest[0] if get(prompt, "answer") is None else get(prompt, "answer")]
    if targets.startswith("top-k"):
        return likeliest[: int(targets.split()[1])]
    if targets.startswith("top-p"):
        sums = running_sums(p[v] for v in likeliest)
        return likeliest[: next(n for n in range(1, len(sums) + 1) if sums[n] >= float(targets.split()[1]))]
    return list(dict.fromkeys(int(each) for each in targets.split(",")))


def probability_roots(
    model: Model, acts: Acts, prompt: Any, targets: str
) -> tuple[list[tuple[int | None, int | None, int]], dict[str, float], float]:
    """The heads and what they attended to that are roots (section 14.7), each head's value, and Σ values − J(z)."""
    last = last_traced(prompt)
    W_U, z = model.params["W_U"], acts["logits"][last]
    z_0 = model.params["b_U"] + norm_parameters(model.params, "ln_final")[1] @ W_U
    tokens = wanted_tokens(softmax(z), prompt, targets)
    q = np.zeros(len(z))
    q[tokens] = softmax(z)[tokens] / softmax(z)[tokens].sum()

    def likelihood(logits: np.ndarray) -> float:
        return float(q @ np.log(softmax(logits)))

    nodes, node_weights = np.polynomial.legendre.leggauss(200)
    mean = sum(w / 2 * softmax(z_0 + (x + 1) / 2 * (z - z_0)) for x, w in zip(nodes, node_weights, strict=True))
    parts = output_parts(model, acts, last)
    values = [float(r @ W_U @ (q - mean)) for *_, r in parts]
    worth = likelihood(z) - likelihood(z_0)
    roots: list[tuple[int | None, int | None, int]] = []
    effects: dict[str, float] = {}
    left = z.copy()
    for c in sorted(range(len(parts)), key=lambda c: (-values[c], c)) if worth > 0 else []:
        if values[c] <= 0:
            break
        writer, b, r = parts[c]
        left = left - r @ W_U
        if b is not None:
            roots.append((writer.layer, writer.head, b))
            effects[writer.name] = effects.get(writer.name, 0.0) + values[c]
        if likelihood(z) - likelihood(left) >= 0.8 * worth:
            break
    return roots, effects, sum(values) - worth


def logit_roots(model: Model, acts: Acts, prompt: Any, coverage: float) -> list[tuple[int | None, int | None, int]]:
    """Section 11's root heads, split by b."""
    last = last_traced(prompt)
    a, _ = direction(model.params, acts, last, get(prompt, "answer"), get(prompt, "distractor"))
    parts = [(w, b, float(r @ a)) for w, b, r in output_parts(model, acts, last) if b is not None]
    return [
        (parts[c][0].layer, parts[c][0].head, parts[c][1]) for c in coverage_cut([p[2] for p in parts], coverage).chosen
    ]


def root_firings(
    model: Model, acts: Acts, index: int, prompts: Sequence[Any], rows: Sequence[Row], settings: Mapping[str, Any]
) -> list[Key]:
    """The firings of one prompt, among its rows, that the setting `roots` takes."""
    prompt = prompts[index]
    if settings["roots"] == "logit":
        started = logit_roots(model, acts, prompt, settings["coverage"])
    elif settings["roots"] == "probability":
        started = probability_roots(model, acts, prompt, settings["targets"])[0]
    else:
        # It finds the prompt's roles by the rows' own number.
        return named_roots(rows, prompts, settings["roots"]).get(index, [])
    last = last_traced(prompt)
    return [key(row) for row in rows if row["dest"] == last and (row["layer"], row["head"], row["src"]) in started]

"""`weights-tools inspect`: what a checkpoint holds, what it can be used for, what is strange about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

from weights_tools.cli.options import Flat, Source, Voice, aligned

if TYPE_CHECKING:
    from weights_tools.checkpoints.heads import HeadFacts
    from weights_tools.checkpoints.opened import Opened
    from weights_tools.checkpoints.tensors import TensorFacts
    from weights_tools.checkpoints.uses import Standing

_LAYER = re.compile(r"(?<=\bh\.)\d+(?=\.)")


@dataclass(frozen=True)
class Options:
    """Say what a checkpoint holds, what it can be used for, what is missing and what is strange, part by part.

    Tensors with dtypes, shapes and norms, values that are not finite, tensors that are equal; of each head how well
    conditioned W_Q and W_K are, and how many singular values of its query-key matrix lie within 1 % of a neighbour.

    For example: `weights-tools inspect mymodel`

    Every number, one tensor and one head at a time: `weights-tools inspect mymodel --json`
    """

    path: Source
    """Hugging Face GPT-2 folder, a .safetensors file by itself, or a hub id."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Read part by part; print what was found."""
    from weights_tools.checkpoints.opened import opened
    from weights_tools.checkpoints.tensors import equal_tensors, tensor_facts
    from weights_tools.checkpoints.uses import standing

    found = opened(options.path)
    tensors = list(found.tensors.values())
    facts = []
    with options.voice.progress("reading tensors", len(tensors)) as advance:
        for tensor in tensors:
            facts.append(tensor_facts(tensor))
            if advance is not None:
                advance(len(facts), len(tensors))
    not_finite = {each.name: each.not_finite for each in facts if each.not_finite}
    stands = None if found.folder is None else standing(found.folder, not_finite)
    heads = _heads(stands, options.voice)
    equal = equal_tensors(facts)
    options.voice.show(_content(found, facts, equal, stands, heads), _lines(found, facts, equal, stands, heads))
    return 0


def _heads(stands: Standing | None, voice: Voice) -> list[HeadFacts]:
    from weights_tools.checkpoints.heads import head_facts

    if stands is None or stands.config is None or stands.heads is None:
        return []
    with voice.progress("decomposing heads", stands.config.n_layers) as advance:
        return list(head_facts(stands.config, stands.heads.tensors, advance))


def _content(
    found: Opened,
    facts: Sequence[TensorFacts],
    equal: Sequence[Sequence[str]],
    stands: Standing | None,
    heads: Sequence[HeadFacts],
) -> dict[str, Any]:
    counted = sum(head.within_rank for head in heads)
    near = sum(head.near for head in heads)
    return {
        "path": found.source,
        "tensors": [{**asdict(each), "shape": list(each.shape)} for each in facts],
        "weights": sum(each.n_values for each in facts),
        "equal": [list(names) for names in equal],
        "config": None if stands is None or stands.config is None else asdict(stands.config),
        "tied": None if stands is None else stands.tied,
        "tokenizer": None if stands is None else stands.tokenizer,
        "uses": {}
        if stands is None
        else {use.name: {"possible": use.why is None, "why": use.why} for use in stands.uses},
        "strange": [] if stands is None else list(stands.strange),
        "heads": [asdict(each) for each in heads],
        "near": {"vectors": near, "of": counted, "share": near / counted if counted else None},
    }


def _lines(
    found: Opened,
    facts: Sequence[TensorFacts],
    equal: Sequence[Sequence[str]],
    stands: Standing | None,
    heads: Sequence[HeadFacts],
) -> list[str]:
    files = len({each.file for each in facts})
    lines = [f"{found.source}: {len(facts)} tensors in {files} file{'' if files == 1 else 's'}", "", *_table(facts), ""]
    lines += [f"{' = '.join(names)}: equal" for names in equal]
    bad = [f"{each.name} ({each.not_finite:,})" for each in facts if each.not_finite]
    lines.append(f"not finite: {', '.join(bad) or 'none'}")
    if stands is not None:
        lines += [f"{use.name}: {'yes' if use.why is None else f'no: {use.why}'}" for use in stands.uses]
        if stands.tokenizer is not None:
            lines.append(f"tokenizer: {stands.tokenizer}")
        lines += [f"strange: {each}" for each in stands.strange]
    return lines + (["", *_head_lines(heads)] if heads else [])


def _table(facts: Sequence[TensorFacts]) -> list[str]:
    """A line for what all layers have alike, layers gathered."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[TensorFacts]] = {}
    for each in facts:
        groups.setdefault((_LAYER.sub("*", each.name), each.dtype, each.shape), []).append(each)
    rows = [
        (
            *(name, dtype, " × ".join(map(str, shape)), len(those)),
            _range([each.norm for each in those]),
            _range([each.largest for each in those]),
        )
        for (name, dtype, shape), those in groups.items()
    ]
    return aligned(("tensor", "dtype", "shape", "count", "norm", "largest value"), rows, left=2)


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    low, high = f"{min(known):.4g}", f"{max(known):.4g}"
    return low if low == high else f"{low} to {high}"


def _head_lines(heads: Sequence[HeadFacts]) -> list[str]:
    layers = sorted({head.layer for head in heads})
    rows = []
    for layer in layers:
        those = [head for head in heads if head.layer == layer]
        near, counted = sum(head.near for head in those), sum(head.within_rank for head in those)
        conditions = [
            _conditions([head.condition_W_Q for head in those]),
            _conditions([head.condition_W_K for head in those]),
        ]
        share = f"{near / counted:.1%}" if counted else "—"
        rows.append((layer, *conditions, f"{max(head.sigma for head in those):.4g}", share))
    near, counted = sum(head.near for head in heads), sum(head.within_rank for head in heads)
    of_all = f"{near:,} of {counted:,} singular values have a neighbour within 1 %"
    columns = ("layer", "condition of W_Q, median to worst", "of W_K", "largest σ", "σ with a neighbour within 1 %")
    return [*aligned(columns, rows), f"{of_all} ({near / counted:.1%})" if counted else of_all]


def _conditions(values: Sequence[float | None]) -> str:
    """Median and worst; a head whose weights lack full rank has no condition number and is worse than any."""
    known = sorted(float("inf") if value is None else value for value in values)
    return " to ".join(
        "no full rank" if value == float("inf") else f"{value:.3g}" for value in (median(known), known[-1])
    )

"""What the tensors of a stranger's checkpoint are called: wrappers' prefixes, a tied pair's one name, other heads.

Found by names alone; `gpt2jax.checkpoint_check` compares what is found with what a configuration asks for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpt2jax.checkpoint_names import TOKEN_EMBEDDING, UNEMBEDDING
from gpt2jax.errors import CheckpointError
from gpt2jax.tensor_file import StoredTensor

BODY_PREFIX = "transformer."
# What PyTorch puts before the names of a module that it wraps: compiled, data parallel, sharded, checkpointed.
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Heads beside the body, by what their names begin with: transformers' own, TRL's, and older libraries'.
OTHER_HEADS = (
    "score",
    "classifier",
    "classification_head",
    "qa_outputs",
    "multiple_choice_head",
    "mc_head",
    "v_head",
    "value_head",
    "reward_head",
    "rm_head",
    "regression_head",
    "summary",
    "sequence_summary",
)
# Causal masks that old checkpoints carry along; they are the same for every model of that length.
_IGNORED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_BODY = re.compile(
    r"(?P<before>(?:.+?\.)??)(?P<name>h\.\d+\.(?:ln_1|ln_2|attn|mlp)\..+|wte\.weight|wpe\.weight|ln_f\.(?:weight|bias))"
)


@dataclass(frozen=True)
class Recognised:
    """A checkpoint's tensors under the table's names.

    Attributes:
        found: by the table's name, or by their own without wrappers and prefix where the table has none such.
        doubled: names of the table that two tensors bear.
        heads: tensors of other heads, by their own names; they are in no other list, and causal masks in none.
        notes: what was left out or stripped, a sentence each.
    """

    found: dict[str, StoredTensor]
    doubled: tuple[str, ...]
    heads: dict[str, StoredTensor]
    notes: tuple[str, ...]


def recognise(stored: dict[str, StoredTensor], *, tied: bool, where: str | Path) -> Recognised:
    """Find GPT-2's tensors under whatever names they bear.

    Args:
        stored: tensors by the names in their files.
        tied: whether the unembedding may be the token embedding. If so, one of the two names is enough.
        where: what to call the files in error messages.

    Raises:
        CheckpointError: names under several prefixes, as of several models in one file.
    """
    prefix = _common_prefix(stored, where)
    named: list[tuple[str, StoredTensor]] = []
    others: dict[str, StoredTensor] = {}
    for own, tensor in stored.items():
        name = _canonical(own, prefix)
        if name.split(".")[0] in OTHER_HEADS:
            others[own] = tensor
        elif not _IGNORED.fullmatch(name):
            named.append((name, tensor))
    found = dict(named)
    stripped = _stripped(found)
    if tied and TOKEN_EMBEDDING.name not in found and UNEMBEDDING.name in found:
        found[TOKEN_EMBEDDING.name] = found.pop(UNEMBEDDING.name)
    notes = [f"the tensors' names bear {stripped}, which is stripped"] if stripped else []
    if others:
        notes.append(f"{_named(list(others))} of another head: left out")
    doubled = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    return Recognised(found, tuple(doubled), others, tuple(notes))


def body_prefix(stored: Mapping[str, str]) -> str:
    """What names of the body have before them in files; Hugging Face's own `transformer.` where that cannot be told.

    Args:
        stored: names in the files by the table's names.
    """
    fronts = (own.removesuffix(name) for name, own in stored.items() if _BODY.fullmatch(name) and own.endswith(name))
    return next(fronts, BODY_PREFIX)


def _common_prefix(stored: dict[str, StoredTensor], where: str | Path) -> str:
    """What all names of the body have before `transformer.`, wrappers' names aside."""
    matches = filter(None, (_BODY.fullmatch(_unwrapped(name)) for name in stored))
    prefixes = sorted({match["before"].removesuffix(BODY_PREFIX) for match in matches})
    if len(prefixes) > 1:
        shown = ", ".join(f'"{prefix}"' for prefix in prefixes)
        raise CheckpointError(
            f"{where}: GPT-2's names stand after {shown}, as of several models; give a file that holds one of them"
        )
    return prefixes[0] if prefixes else ""


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _canonical(name: str, prefix: str) -> str:
    """A tensor's name as the table has it. What stands beside the body may have a part of the prefix, or none."""
    parts, before = _unwrapped(name).split("."), prefix.split(".")[:-1]
    while before and len(parts) > 1 and parts[0] == before[0]:
        parts, before = parts[1:], before[1:]
    return ".".join(parts).removeprefix(BODY_PREFIX)


def _stripped(found: dict[str, StoredTensor]) -> str | None:
    """What stands before the table's names beside `transformer.`, as it is to be said."""
    for name, tensor in found.items():
        before = tensor.name.removesuffix(name)
        if not _BODY.fullmatch(name) or before in ("", BODY_PREFIX):
            continue
        front = before.removesuffix(BODY_PREFIX)
        within = [f'"{wrapper}."' for wrapper in WRAPPERS if wrapper in tensor.name.split(".")]
        return f'the prefix "{front}"' if before != tensor.name else f"{' and '.join(within)} of wrappers"
    return None


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

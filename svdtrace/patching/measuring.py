"""Every head and every role patched from clean prompts into their corrupted twins, beside what gradients estimate.

What is measured is logit[answer] − logit[distractor] at the last traced token. `recovered` is the share of what the
corruption took that a patch gives back: (patched − corrupt) / (clean − corrupt), of means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int

import gpt2jax
from gpt2jax.fingerprint import fingerprint
from svdtrace.patching.table import PATCHING, divisor_of, rows_of
from svdtrace.patching.twins import paired
from svdtrace.prompts.hashing import prompts_hash
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.manifest import origin_facts

HEADS, RESID = "attn.hook_z", "hook_resid_pre"
BATCH = 64
Asked = tuple[Int[Array, " prompt"], Int[Array, " prompt"], Int[Array, " prompt"]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Patched:
    """What patches gave back.

    `table`: the columns that docs/formats.md lists; `manifest`: how they came about, with the logit differences of the
    clean and the corrupted runs.
    """

    table: pa.Table
    manifest: dict[str, Any] = field(repr=False)

    def save(self, folder: str | Path) -> None:
        """Write table, picture and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.patching.folder import write

        write(self.table, self.manifest, folder)


def patch_prompts(
    model: gpt2jax.Model, clean: Sequence[Prompt], corrupt: Sequence[Prompt], progress: Progress | bool | None = None
) -> Patched:
    """Patch every head, and the residual at every role, from clean prompts into corrupted ones.

    Args:
        clean: with answer and distractor.
        corrupt: one for each, of the same length; see `svdtrace.patching.swapped`.
        progress: is told how many prompts are done, and how many there are. True shows a bar, in a terminal and in a
            notebook.

    Raises:
        PromptError: prompts that cannot be patched into each other.
        CheckpointError: the model holds only a part of its weights, or has no LM head.
    """
    paired(clean, corrupt)
    model.params.require_unembedding()
    # Compiled programs would tell tokenizers apart.
    slopes, roles = partial(_slopes, replace(model, tokenizer=None, layout=None)), _roles(clean)
    parts = []
    with progressing(progress, "patching prompts") as told:
        for start in range(0, len(clean), BATCH):
            parts.append(_batch(model, clean[start : start + BATCH], corrupt[start : start + BATCH], slopes, roles))
            if told is not None:
                told(min(start + BATCH, len(clean)), len(clean))
    found = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    ends = {name: found[name] for name in ("clean", "corrupt")}
    everywhere = np.ones(len(clean), bool)
    heads = [("head", head, everywhere) for head in range(model.config.n_heads)]
    spots = [("role", role, np.asarray([role in prompt.roles for prompt in clean])) for role in roles]
    rows = [
        *rows_of(HEADS, found["heads"], found["heads_slope"], ends, heads),
        *rows_of(RESID, found["roles"], found["roles_slope"], ends, spots),
    ]
    return Patched(pa.Table.from_pylist(rows, schema=PATCHING), _manifest(model, clean, corrupt, ends))


def difference(logits: Float[Array, "prompt tok vocab"] | None, asked: Asked) -> Float[Array, " prompt"]:
    """logit[answer] − logit[distractor] of every prompt; `asked`: answers, distractors, last traced tokens."""
    assert logits is not None, "patching asks for the unembedding first"
    answer, distractor, last = asked
    of_last = jnp.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]
    each = [jnp.take_along_axis(of_last, token[:, None], axis=1)[:, 0] for token in (answer, distractor)]
    return each[0] - each[1]


def _batch(
    model: gpt2jax.Model,
    clean: Sequence[Prompt],
    corrupt: Sequence[Prompt],
    slopes: Callable[..., dict[str, Array]],
    roles: Sequence[str],
) -> dict[str, np.ndarray]:
    """Logit differences of both runs and of every patch, and gradients' estimates, the prompt last."""
    tokens, mask = _padded(clean)
    twins, _ = _padded(corrupt)
    asked: Asked = tuple(  # pyright: ignore[reportAssignmentType]
        jnp.asarray([getattr(prompt, name) for prompt in clean], jnp.int32) for name in ("answer", "distractor", "last")
    )
    taps = [f"blocks.*.{site}" for site in (HEADS, RESID)]
    runs = [gpt2jax.forward(model, each, mask=mask, taps=taps) for each in (tokens, twins)]
    ends = {
        name: np.asarray(difference(run.logits, asked)) for name, run in zip(("clean", "corrupt"), runs, strict=True)
    }
    patched = partial(gpt2jax.patch, model, tokens, twins, metric=(difference, asked), mask=mask)
    moved = {tap: runs[0].taps[tap] - runs[1].taps[tap] for tap in taps}
    # Linear in what is patched: the slope at the corrupted run times how far the clean one is from it.
    estimated = slopes(twins, mask, asked, moved)
    at = np.asarray([[prompt.roles.get(role, 0) for prompt in clean] for role in roles], np.int32)
    at = at.reshape(len(roles), len(clean))

    def by_role(of_tokens: Array) -> np.ndarray:
        """From [layer tok prompt] to [layer role prompt]."""
        return np.take_along_axis(np.asarray(of_tokens), at[None], axis=1)

    return {
        **ends,
        "heads": np.asarray(patched(taps[0])),
        "heads_slope": np.asarray(estimated[taps[0]]),
        "roles": by_role(patched(taps[1], by="tok")),
        "roles_slope": by_role(estimated[taps[1]]),
    }


@jax.jit
def _slopes(
    model: gpt2jax.Model, tokens: Array, mask: Array, asked: Asked, moved: dict[str, Array]
) -> dict[str, Float[Array, "layer place prompt"]]:
    """What a gradient says of each patch: its product with `moved`, [layer prompt tok …], at every head or token."""

    def total(added: dict[str, Array]) -> Array:
        hooks = {
            tap.replace("*", str(layer)): (jnp.add, added[tap][layer])
            for tap in added
            for layer in range(model.config.n_layers)
        }
        return jnp.sum(difference(gpt2jax.forward(model, tokens, mask=mask, hooks=hooks).logits, asked))

    slope = jax.grad(total)({tap: jnp.zeros_like(each) for tap, each in moved.items()})
    heads, resid = (slope[tap] * each for tap, each in moved.items())
    names = list(moved)
    return {
        names[0]: jnp.moveaxis(jnp.sum(heads, axis=(2, 4)), 1, 2),
        names[1]: jnp.moveaxis(jnp.sum(resid, axis=3), 1, 2),
    }


def _padded(prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and which of them are real, [prompt tok]."""
    longest = max(len(prompt.tokens) for prompt in prompts)
    lengths = np.asarray([len(prompt.tokens) for prompt in prompts])
    tokens = np.zeros((len(prompts), longest), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt.tokens)] = prompt.tokens
    return tokens, np.arange(longest) < lengths[:, None]


def _roles(prompts: Sequence[Prompt]) -> list[str]:
    return list(dict.fromkeys(role for prompt in prompts for role in prompt.roles))


def _manifest(
    model: gpt2jax.Model, clean: Sequence[Prompt], corrupt: Sequence[Prompt], ends: dict[str, np.ndarray]
) -> dict[str, Any]:
    device = jax.local_devices()[0]
    return {
        **versions(),
        "command": "patch",
        "model": {"fingerprint": fingerprint(model), **origin_facts(model), "processing": model.processing},
        "prompts": {"count": len(clean), "sha256": prompts_hash(clean), "rejected": 0},
        "corrupt": {"count": len(corrupt), "sha256": prompts_hash(corrupt)},
        "logit_difference": {name: float(np.mean(each)) for name, each in ends.items()},
        "divisor": divisor_of(ends["clean"] - ends["corrupt"]),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }

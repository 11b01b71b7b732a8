"""The table of patches: its columns, listed once, and how measured values become rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from svdtrace.results.columns import described

PATCHING = described(
    ("site", pa.string(), "the activation taken from the clean run: attn.hook_z (one head, at every token) or "
     "hook_resid_pre (what enters a layer, at the token of one role)"),
    ("layer", pa.int32(), "layer of the activation"),
    ("head", pa.int32(), "the head; null for the residual"),
    ("role", pa.string(), "the role at whose token the residual is patched; null for heads"),
    ("prompts", pa.int32(), "prompts measured: all, or those that have the role"),
    ("logit_difference", pa.float32(), "logit[answer] - logit[distractor] of the patched run at the last traced token, "
     "mean over the prompts"),
    ("recovered", pa.float32(), "(patched - corrupt) / (clean - corrupt), of means; null where the divisor is within "
     "five standard errors of 0"),
    ("attribution", pa.float32(), "the same share as the gradient at the corrupted run estimates it"),
)  # fmt: skip
SURE = 5.0
"""A divisor counts from so many of its standard errors on."""


def rows_of(
    site: str,
    changed: Float[np.ndarray, "layer place prompt"],
    estimated: Float[np.ndarray, "layer place prompt"],
    ends: Mapping[str, Float[np.ndarray, " prompt"]],
    places: Sequence[tuple[str, Any, np.ndarray]],
) -> Iterator[dict[str, Any]]:
    """A row for each layer and place.

    Args:
        changed: the logit difference of every patch; estimated: by how much the gradient says that it rises.
        ends: that of the `clean` and the `corrupt` runs.
        places: the column that names each place, its name, and which prompts have it, [prompt].
    """
    for layer in range(len(changed)):
        for place, (column, name, has) in enumerate(places):
            clean, corrupt = ends["clean"][has], ends["corrupt"][has]
            patched, slope = changed[layer, place][has], estimated[layer, place][has]
            divisor = divisor_of(clean - corrupt)
            yield {
                "site": site,
                "layer": layer,
                "head": None,
                "role": None,
                "prompts": int(has.sum()),
                "logit_difference": float(np.mean(patched)),
                "recovered": None if divisor is None else float(np.mean(patched - corrupt)) / divisor,
                "attribution": None if divisor is None else float(np.mean(slope)) / divisor,
                column: name,
            }


def divisor_of(fall: Float[np.ndarray, " prompt"]) -> float | None:
    """The mean of what the corruption took, if it is more than chance; `None` where shares would mean nothing."""
    mean, error = float(np.mean(fall)), float(np.std(fall)) / len(fall) ** 0.5
    return mean if abs(mean) > SURE * error else None

"""docs/parity.md, measured: `PYTHONPATH=tests python -m parity.tables` from the repository's root.

Needs the extra `parity`. What TransformerLens gave is in an archive, which `transformer_lens_arrays.py` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from parity import lens
from parity.comparing import (
    MORE_ACTIVATIONS,
    OUTPUTS,
    SWITCHES,
    arrays,
    at_two_precisions,
    bounds_at,
    differences,
    ours_in,
    theirs,
)
from parity.hugging_face import tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"


def filled(page: str) -> str:
    """A page with its tables made anew, each between `<!-- NAME -->` and `<!-- end -->`."""
    for name, rows in (("hugging-face", _hugging_face()), ("transformer-lens", _lens())):
        mark = f"<!-- {name} -->\n"
        before, _, rest = page.partition(mark)
        page = before + mark + "".join(rows) + rest[rest.index("<!-- end -->") :]
    return page


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table of Markdown, a line each."""
    columns = list(columns)
    yield f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def _hugging_face() -> Iterator[str]:
    named = SWITCHES | {name: {"activation_function": name} for name in MORE_ACTIVATIONS}
    rows = []
    for name, switches in named.items():
        with TemporaryDirectory() as place:
            found = at_two_precisions(Path(place), switches)
        rows.append((name, *(cell for dtype in found for cell in _cells(differences(*found[dtype])))))
    rows += [(f"{dtype} file", *_cells(_half(dtype)), "", "", "", "") for dtype in ("float16", "bfloat16")]
    columns = ("logits differ by", "allowed", "largest share", "output")
    yield from table(
        ("model", *(f"float32: {each}" for each in columns), *(f"float64: {each}" for each in columns)), rows
    )


def _half(dtype: str) -> dict[str, tuple[float, float, float]]:
    """A file of half precision, read into float32 by both."""
    with TemporaryDirectory() as place:
        model = tiny_model(tie_word_embeddings=False).to(getattr(torch, dtype))
        model.save_pretrained(place)
        single = arrays(theirs(model.float()))
        bounds = bounds_at(float(np.finfo("float32").eps), model=model.double())[0]
        return differences(ours_in("float32", Path(place)), single, bounds)


def _cells(found: dict[str, tuple[float, float, float]]) -> tuple[str, ...]:
    error, allowed, _ = found["logits"]
    worst = max(OUTPUTS, key=lambda name: found[name][2])
    return f"{error:.1e}", f"{allowed:.1e}", f"{found[worst][2]:.2f}", worst


def _lens() -> Iterator[str]:
    kinds = [(processing, dtype) for processing in ("raw", "folded") for dtype in ("float32", "float64")]
    found = {kind: {each.hook: each for each in lens.differences(*kind)} for kind in kinds}
    rows = []
    for hook in (*lens.SHARED, "logits"):
        cells = []
        for kind in kinds:
            one = found[kind][hook]
            cells += [f"{one.error:.1e}", f"{one.bound:.1e}"]
        rows.append((f"`{hook}`", *cells))
    yield from table(
        ("hook", *(f"{' '.join(kind)}: {what}" for kind in kinds for what in ("differs by", "bound"))), rows
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), encoding="utf-8")

"""docs/parity.md: a row for all that is compared, and no row that rounding does not explain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `parity`: PyTorch")
pytest.importorskip("transformers", reason="needs the extra `parity`: Hugging Face transformers")

from parity import lens
from parity.comparing import MORE_ACTIVATIONS, SWITCHES

pytestmark = pytest.mark.parity
PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"


def rows(name: str) -> dict[str, list[str]]:
    """A table's cells by its first column."""
    section = PAGE.read_text("utf-8").split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]
    found = [re.split(r" *\| *", line.strip("| \n")) for line in section.splitlines()[2:]]
    return {first: rest for first, *rest in found}


def test_every_model_is_told():
    found = rows("hugging-face")
    assert list(found) == [*SWITCHES, *MORE_ACTIVATIONS, "float16 file", "bfloat16 file"]
    shares = [
        float(cells[place]) for cells in found.values() for place in (2, 6) if len(cells) > place and cells[place]
    ]
    assert len(shares) == 2 * len(found) - 2
    assert max(shares) <= 1


def test_every_hook_is_told():
    found = rows("transformer-lens")
    assert list(found) == [*(f"`{hook}`" for hook in lens.SHARED), "`logits`"]
    for cells in found.values():
        assert all(float(error) <= float(bound) for error, bound in zip(cells[::2], cells[1::2], strict=True))

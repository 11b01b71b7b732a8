"""What all tests share: signatures are checked, types are not mixed, files at hand are found."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parent.parent
NUMERICS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "svdtrace").rglob("*.py")
    if "from jaxtyping" in path.read_text("utf-8")
]

# Before the packages are imported: the annotations of all that computes are then checked by beartype at each call.
install_import_hook(["gpt2jax", *NUMERICS], "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="session")
def _caches_of_their_own(tmp_path_factory: pytest.TempPathFactory):
    """Caches on disk go to a folder of this run, so that no run answers from an earlier one's."""
    os.environ["SVDTRACE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the project: GPT-2's tokenizer and heads, the paper's numbers."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, the paper's files beside the project")
    return folder

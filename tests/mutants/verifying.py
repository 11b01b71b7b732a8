"""What `svdtrace.testing.verify` says of a small random model, and then what one test says, in a process whose source
is a mutant's: `python -m mutants.verifying folded|raw all|none|LAW TEST`. Prints the laws that fail as a line of JSON,
then pytest's own lines.

Both in one process, since importing and starting JAX is a third of what each of them costs.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import pytest

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.testing import Case, law, verify
from svdtrace.testing.listing import of_case
from svdtrace.testing.strategies import with_head
from svdtrace.testing.verifying import drawn_prompts

CONFIG = gpt2jax.GPT2Config(
    n_layers=3, n_heads=2, d_model=8, d_mlp=16, n_ctx=16, d_vocab=24, scale_attn_by_inverse_layer_idx=True
)
SEED = 3
ALL, NONE = "all", "none"
OF_RAW = ("writers_sum", "everything_explained")
"""Laws that raw weights, read through γ and β, could break."""


def drawn_model() -> gpt2jax.Model:
    """A random model, one head of it with half the rank that it could have."""
    model = gpt2jax.random_model(CONFIG, jax.random.key(SEED), std=0.6, biases=0.4)
    return with_head(model, "short", seed=SEED)


def failing(*, raw: bool, asked: str) -> dict[str, Any]:
    """Names of the laws that fail, those of raw weights apart, and the law at which a program stopped, if it did."""
    model, at = drawn_model(), ""
    laws = None if asked == ALL else [law(asked).name] if asked != NONE else []

    def told(_done: int, _every: int, name: str) -> None:
        nonlocal at
        at = name

    try:
        found = verify(model, laws=laws, progress=told)
        case = Case(model, tuple(drawn_prompts(CONFIG, 0)), TraceConfig(writers="all", processing="raw"))
        of_raw = [of_case(law(name), case) for name in OF_RAW] if raw else []
    except Exception as error:  # a mutant may do anything
        return {"laws": [], "raw": [], "stopped": f"{type(error).__name__} at {at}"}
    return {
        "laws": [each.law for each in found if not each.holds],
        "raw": [each.law for each in of_raw if not each.holds],
        "stopped": "",
    }


def main(weights: str, laws: str, *tests: str) -> int:
    """Verify, then run the tests; pytest's exit status."""
    sys.stdout.write(json.dumps(failing(raw=weights == "raw", asked=laws)) + "\n")
    sys.stdout.flush()
    # What verifying has imported pytest cannot rewrite any more, and says so of each plugin.
    quietly = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    asked = ["-q", "-x", "-m", "not full or whole", "-p", "no:cacheprovider", *quietly]
    return pytest.main([*asked, *tests]) if tests else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

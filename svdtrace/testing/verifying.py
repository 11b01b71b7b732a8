"""All laws that apply to a model, tried on prompts: what `svdtrace verify` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpt2jax.config import GPT2Config
from gpt2jax.fold import fold
from gpt2jax.params import Model
from svdtrace.errors import SettingError
from svdtrace.method.decomposition import decompose
from svdtrace.method.ratios import Ratio
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.bars import progressing
from svdtrace.testing.cases import Case
from svdtrace.testing.listing import LAWS, Law, of_case, of_heads, of_seed
from svdtrace.tracing.trace import check_prompts

LENGTHS = (12, 7, 9, 5, 12, 10)
"""Of the prompts that are drawn where none are given, in tokens."""
MOST_PROMPTS = 8
"""Laws look at every pair of tokens many times over; more prompts say no more."""


def verify(
    model: Model,
    prompts: Sequence[Prompt] | None = None,
    *,
    laws: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | bool | None = None,
) -> list[Ratio]:
    """Try every law that applies to a model, folded, in float32.

    Args:
        model: raw or folded. Where it holds heads alone, only laws of their decomposition apply.
        prompts: the first 8 of them; by default random tokens.
        laws: names of those to try; by default all of them.
        seed: of what laws draw.
        progress: called before every law with laws done, laws in all, and the law's name, and once at the end. True
            shows a bar, in a terminal and in a notebook.

    Returns:
        Ratios in the order of `svdtrace.testing.LAWS`.

    Raises:
        PromptError, ModelError: prompts that do not fit the model, or a model without heads.
        SettingError: a name is no law's, or the law needs prompts and a whole model, where there are heads alone.
    """
    whole = is_whole(model)
    wanted = [each for each in LAWS if whole or not each.needs_prompts]
    case = Case(
        model, tuple(check_prompts(model, prompts or drawn_prompts(model.config, seed))[:MOST_PROMPTS]), seed=seed
    )
    heads = None if whole else fold(model)
    parts = None if heads is None else decompose(heads)
    tried = wanted if laws is None else _named(laws, wanted)
    found = []
    with progressing(progress, "trying laws") as told:
        for done, each in enumerate(tried):
            if told is not None:
                told(done, len(tried), each.name)
            if heads is None:
                found.append(of_case(each, case))
            else:
                found.append(of_heads(each, heads, parts) if each.needs == "decomposition" else of_seed(each, seed))
        if told is not None:
            told(len(tried), len(tried), "done")
    return found


def _named(names: Sequence[str], laws: Sequence[Law]) -> list[Law]:
    known = {each.name: each for each in laws}
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"laws: {', '.join(unknown)} cannot be tried of this model; those that can: {', '.join(known)}"
        )
    return [known[name] for name in names]


def is_whole(model: Model) -> bool:
    """Whether a model holds all that tracing needs, and not heads alone."""
    blocks = model.params.blocks
    return all(each is not None for each in (model.params.W_E, blocks.W_in, blocks.W_out, blocks.W_V, blocks.W_O))


def drawn_prompts(config: GPT2Config, seed: int) -> list[Prompt]:
    """Prompts of random tokens, of several lengths."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, config.d_vocab, min(length, config.n_ctx)).tolist() for length in LENGTHS]
    return [Prompt(id=None, tokens=tuple(ids), strings=tuple(map(str, ids))) for ids in drawn]

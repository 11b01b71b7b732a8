"""Task tokens: which tokens a head's most used singular vectors pick out (METHOD.md, section 9).

used = head_usage(model, prompts).at("9.9@end:IO").used(100)
ranked = task_tokens(model, prompts, layer=9, head=9, vectors=used)
ranked.strings[:10]                              # the tokens with the largest projections
ranked.auc(names)                                # how surely a token of `names` stands above another one
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2jax.params import Model
from svdtrace.characterisation.projections import read_norms
from svdtrace.characterisation.usage import observed_batches
from svdtrace.config import TraceConfig
from svdtrace.errors import SettingError
from svdtrace.prompts.language.words import NAMES
from svdtrace.prompts.prompt import Prompt
from svdtrace.statistics import roc_auc
from svdtrace.tracing.devices import precision
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES
from svdtrace.tracing.trace import check_prompts, prepare_cached

CLASS_ROLES = ("IO", "S1", "S2")
"""Roles at which names stand in the paper's prompts."""


@dataclass(frozen=True)
class TaskTokens:
    """Tokens of some prompts, largest mean projection first.

    `tokens` ids, `strings`, `count` of occurrences up to the last traced token, `norm` the mean over them; all [token].
    """

    tokens: np.ndarray
    strings: tuple[str, ...]
    count: np.ndarray
    norm: np.ndarray

    def auc(self, names: Collection[int]) -> float:
        """The probability that a token among `names` has a larger norm than one that is not; NaN without both."""
        return roc_auc(self.norm, np.isin(self.tokens, list(names)))


@dataclass(frozen=True)
class TokenNorms:
    """Mean norms of projections for every head: `norm` [side layer head token]; `tokens`, `count` [token]."""

    tokens: np.ndarray
    strings: tuple[str, ...]
    count: np.ndarray
    norm: np.ndarray

    def of_head(self, side: str, layer: int, head: int) -> TaskTokens:
        """One head's tokens, ranked; equal norms by token id."""
        norm = self.norm[SIDES.index(side), layer, head]
        order = np.argsort(-norm, kind="stable")
        strings = tuple(self.strings[place] for place in order)
        return TaskTokens(self.tokens[order], strings, self.count[order], norm[order])


def task_tokens(
    model: Model,
    prompts: Iterable[Prompt],
    layer: int,
    head: int,
    vectors: Sequence[int] | np.ndarray,
    side: str = "src",
    config: TraceConfig | None = None,
) -> TaskTokens:
    """Rank the prompts' tokens by the mean norm of their projections onto some singular vectors of a head.

    The norm of `P [x, 1]` without its last entry, averaged per token over the prompts up to the last traced token.

    Args:
        vectors: the k of the vectors that span P.
        side: `src` projects onto V, `dest` onto U.

    Raises:
        SettingError: no such head, vector or side.
    """
    config = config or TraceConfig()
    prompts, vectors = check_prompts(model, prompts), [*vectors]
    shape = model.config
    if side not in SIDES:
        raise SettingError(f'side is "{side}"; choose dest or src')
    for name, value, stop in (
        ("layer", layer, shape.n_layers),
        ("head", head, shape.n_heads),
        *(("singular vector", int(k), shape.d_head) for k in vectors),
    ):
        if not 0 <= value < stop:
            raise SettingError(f"{name} {value} is outside 0 to {stop - 1}; name one that the model has")
    chosen = np.zeros((len(SIDES), shape.n_layers, shape.n_heads, shape.d_head), bool)
    chosen[:, layer, head, np.asarray(vectors, int)] = True
    with precision(config):
        return token_norms(prepare_cached(model, config), prompts, config, chosen).of_head(side, layer, head)


def token_norms(prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, chosen: np.ndarray) -> TokenNorms:
    """The same for every head and both sides; `chosen` [side layer head sv] marks each head's vectors."""
    seen = sorted({token for prompt in prompts for token in prompt.tokens[: prompt.last + 1]})
    tokens = np.asarray(seen, np.int64)
    strings = {token: string for prompt in prompts for token, string in zip(prompt.tokens, prompt.strings, strict=True)}
    shape = prepared.model.config
    sums = np.zeros((len(tokens), len(SIDES), shape.n_layers, shape.n_heads))
    count = np.zeros(len(tokens), np.int64)
    found = prepared.decomposition
    for batch, observed in observed_batches(prepared, prompts, config):
        traced = np.arange(batch.tokens.shape[1]) <= batch.last[:, None]
        prompt, position = np.nonzero(traced & np.asarray(observed.finite)[:, None])
        which = np.searchsorted(tokens, batch.tokens[prompt, position])
        np.add.at(count, which, 1)
        for side, (read, vectors) in enumerate(((observed.q, found.U), (observed.k, found.V))):
            norms = np.asarray(read_norms(read, found.S, vectors, chosen[side] & np.asarray(found.within_rank())))
            np.add.at(sums[:, side], which, norms[:, prompt, position].transpose(1, 0, 2))
    # Tokens of prompts alone whose activations are not finite have no norms.
    met = count > 0
    means = np.moveaxis(sums[met] / count[met][:, None, None, None], 0, -1)
    return TokenNorms(tokens[met], tuple(strings[token] for token in tokens[met].tolist()), count[met], means)


def class_tokens(prompts: Sequence[Prompt], roles: Sequence[str] = CLASS_ROLES) -> frozenset[int]:
    """The tokens that stand at some roles: in indirect-object prompts, the names that the task turns on."""
    return frozenset(prompt.tokens[prompt.roles[role]] for prompt in prompts for role in roles if role in prompt.roles)


def name_tokens(prompts: Sequence[Prompt]) -> frozenset[int]:
    """Names: the tokens at the roles IO, S1 and S2, and those whose text is a name of `svdtrace.prompts.language`."""
    known = set(NAMES)
    return class_tokens(prompts) | {
        token
        for prompt in prompts
        for token, string in zip(prompt.tokens, prompt.strings, strict=True)
        if string.strip() in known
    }

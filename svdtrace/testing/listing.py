"""All laws, listed once: `svdtrace verify`, the documentation and the tests take them from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gpt2jax.params import Model
from svdtrace.method.decomposition import Decomposition, decompose, query_key_factors
from svdtrace.method.ratios import Ratio
from svdtrace.testing import decompositions, explanations, invariances, passes, precisions, probabilities
from svdtrace.testing.cases import Case

Needs = Literal["decomposition", "products", "contributions", "case", "p-values"]


@dataclass(frozen=True)
class Law:
    """A law: the function that gives its ratio, what that takes, and what it says in a few words.

    `needs`: `decomposition` takes (A, B, U, S, V), `products` p_k [firing sv], `contributions` c_w [firing writer],
    `case` a `Case`, `p-values` those of data drawn from the null, and how many nulls there were.
    """

    function: Callable[..., Ratio]
    needs: Needs
    about: str

    @property
    def name(self) -> str:
        """The name of its function, and of the law in every result."""
        return self.function.__name__

    @property
    def needs_prompts(self) -> bool:
        """Whether it needs a whole model and prompts, not only heads."""
        return self.needs not in ("decomposition", "p-values")


LAWS: tuple[Law, ...] = (
    Law(decompositions.rebuilt, "decomposition", "U S Vᵀ = A Bᵀ"),
    Law(decompositions.orthonormal, "decomposition", "UᵀU = VᵀV = I"),
    Law(decompositions.ordered, "decomposition", "σ_0 ≥ σ_1 ≥ … ≥ 0"),
    Law(decompositions.signed, "decomposition", "the largest entry of u_k is positive"),
    Law(decompositions.values_alone, "decomposition", "σ without vectors = σ with them"),
    Law(decompositions.second_opinion, "decomposition", "σ = LAPACK's in float64"),
    Law(decompositions.subspaces, "decomposition", "blocks of vectors = LAPACK's in float64"),
    Law(passes.products_add_up, "case", "Σ_k p_k = q·k"),
    Law(passes.scores_tapped, "case", "q·k · attn_scale = the tapped score"),
    Law(passes.beyond_rank, "case", "q̂ and k̂ are 0 beyond the rank"),
    Law(passes.writers_sum, "case", "what is written sums to the residual"),
    Law(passes.gauge_unseen, "case", "the singular gauge changes no logit"),
    Law(passes.folding_unseen, "case", "folding changes no log-probability"),
    Law(passes.identity_hooks, "case", "hooks that change nothing change no logit"),
    Law(passes.uncompiled, "case", "no jit, no scan: the same logits"),
    Law(passes.mapped, "case", "vmap over prompts: the same logits"),
    Law(explanations.slices_grow, "products", "slices grow with τ"),
    Law(explanations.edges_grow, "contributions", "edges grow with coverage"),
    Law(explanations.everything_explained, "case", "Σ_w c_w = Σ_{k∈S} p_k"),
    Law(explanations.edits_lower, "case", "an exact local edit lowers Σ_{k∈S} p_k by c_w"),
    Law(explanations.signals_project, "case", "signals are orthogonal projections"),
    Law(explanations.equal_values_turned, "case", "turning within equal σ changes no whole group"),
    Law(explanations.graph_climbs, "case", "the graph has no cycle"),
    Law(explanations.walks_end, "case", "every walk ends at the output"),
    Law(explanations.paths_counted, "case", "paths = ways counted one by one"),
    Law(probabilities.attention_explained, "case", "relative: Σ_w c_w = Σ_{k∈S} P_k"),
    Law(probabilities.path_completed, "case", "relative: Σ_k P_k = p_j − 1/(i+1)"),
    Law(probabilities.path_integrated, "case", "relative: the rule's error is below its bound"),
    Law(probabilities.constants_unseen, "case", "relative: what all keys share changes nothing"),
    Law(probabilities.attention_bounded, "case", "relative: c_w is at most M_j · the range of its row"),
    Law(probabilities.drops_add_up, "case", "relative: drops sum to p_j − p_end"),
    Law(probabilities.until_edits, "case", "relative: until over every k is an edit"),
    Law(probabilities.attention_gauge_unseen, "case", "relative: any gauge gives the same c_w over every k"),
    Law(probabilities.attended_parts_add_up, "case", "relative: a head's parts by what it attended sum to c_w"),
    Law(invariances.signs_turned, "case", "signs of pairs change nothing"),
    Law(invariances.gauge_changed, "case", "A M, B M⁻ᵀ change nothing"),
    Law(invariances.residual_turned, "case", "a turned residual changes nothing"),
    Law(invariances.heads_permuted, "case", "permuted heads permute the result"),
    Law(invariances.prompts_reordered, "case", "the order of prompts changes nothing"),
    Law(invariances.batches_cut, "case", "batches change nothing"),
    Law(invariances.padding_left_out, "case", "padding changes nothing"),
    Law(invariances.later_tokens, "case", "later tokens change nothing"),
    Law(invariances.raw_and_folded, "case", "raw and folded weights fire alike"),
    Law(precisions.double_precision, "case", "float32 = float64 within METHOD.md's bounds"),
    Law(precisions.saved_and_read, "case", "what is saved is read back"),
    Law(precisions.sweep_is_trace, "case", "a sweep is a trace"),
    Law(precisions.gauge_gradient, "case", "gradients lie along no change of gauge"),
    Law(precisions.hook_gradient, "case", "gradients through hooks = finite differences"),
    Law(precisions.bases_keep_scores, "case", "random bases change no score"),
    Law(precisions.p_values_uniform, "p-values", "p-values of nulls are uniform"),
)


def law(name: str) -> Law:
    """The law of a name.

    Raises:
        KeyError: there is none.
    """
    return {each.name: each for each in LAWS}[name]


def decomposition_laws(A: Any, B: Any, U: Any, S: Any, V: Any) -> list[Ratio]:
    """The ratios of a decomposition `A Bᵀ = U diag(S) Vᵀ`, ours or any other.

    All laws of decompositions but that of signs, which others need not keep. U, S and V are held to the precision of
    U's dtype.

    Args:
        A, B, U, V: [… d_model+1 d_head], V with right vectors as columns; S: [… d_head].

    Example:
        >>> A, B = np.random.default_rng(0).normal(size=(2, 5, 2))
        >>> U, S, Vh = np.linalg.svd(A @ B.T)
        >>> all(ratio.holds for ratio in decomposition_laws(A, B, U[:, :2], S[:2], Vh[:2].T))
        True
    """
    given = [np.asarray(each) for each in (A, B, U, S, V)]
    return [each.function(*given) for each in LAWS if each.needs == "decomposition" and each.name != "signed"]


def assert_hold(ratios: list[Ratio]) -> None:
    """Raise an `AssertionError` that names every law that fails, with its ratio, its threshold and the place."""
    failing = [each for each in ratios if not each.holds]
    if failing:
        lines = [f"{each.law}: ratio {each.value:.3g} ≥ {each.threshold:.3g} at {each.worst_at}" for each in failing]
        raise AssertionError("; ".join(lines))


def of_heads(law: Law, model: Model, parts: Decomposition | None = None) -> Ratio:
    """The ratio of a law of decompositions for a model's own; heads are enough."""
    parts = decompose(model) if parts is None else parts
    factors = query_key_factors(model.params.blocks)
    return law.function(*(np.asarray(each) for each in (*factors, parts.U, parts.S, parts.V)))


def of_case(law: Law, case: Case) -> Ratio:
    """The ratio of any law for a model, prompts and settings."""
    if law.needs == "decomposition":
        return of_heads(law, case.processed, case.decomposition)
    if law.needs == "products":
        return law.function(case.attribution.products)
    if law.needs == "contributions":
        return law.function(case.attribution.weights)
    if law.needs == "p-values":
        return of_seed(law, case.seed)
    return law.function(case)


def of_seed(law: Law, seed: int) -> Ratio:
    """The ratio of a law of what is drawn at random, which needs no model; the largest over the kinds of draws."""
    by_kind = precisions.p_values_of_nulls(seed)
    ratios = {kind: law.function(p, precisions.NULLS) for kind, p in by_kind.items()}
    kind, ratio = max(ratios.items(), key=lambda each: each[1].value)
    return replace(ratio, worst_at=f"{kind}: {ratio.worst_at}")

"""The slow float64 truth: METHOD.md written as loops over its definitions, one prompt and one firing at a time.

It imports nothing of the packages that it judges. Parameters are a dict of arrays with the TransformerLens names and
axes (W_E, W_pos, ln1_w, ln1_b, W_Q, b_Q, …, ln_final_w, ln_final_b, W_U, b_U); without the `ln…` entries they are
those of a folded model. A config is a mapping with n_layers, n_heads, d_model, eps, activation (as Hugging Face names
it) and, where they differ from GPT-2's, scale_attn_weights and scale_attn_by_inverse_layer_idx.

`model` is section 1, `heads` sections 2 to 4, `signals` sections 5, 6 and 11, `circuit` sections 7 and 8, `tracing`
puts them together into the rows of the tables; `relative` and `relative_roots` are section 14. What METHOD.md leaves
open is said in the docstrings of `choose_slice`, `turns`, `contribution_bound`, `coverage_cut`, `matches`, `graph` and
`paper_graph`.
"""

from __future__ import annotations

from .circuit import (
    Key,
    graph,
    key,
    labels,
    last_traced,
    led_to,
    matches,
    named_roots,
    paper_graph,
    paths_by_layer,
    paths_by_recursion,
    top_layers,
)
from .heads import (
    Decomposition,
    Slice,
    choose_slice,
    decompose,
    firings,
    pattern_bound,
    product_bounds,
    products,
    running_sums,
    score_bound,
    singular_gauge,
    turns,
    whole_slice,
)
from .model import ACTIVATIONS, attn_scale, fold, forward, is_folded, random_model
from .relative import RELATIVE, Head, path_weights, relative_firings, relative_trace, threshold_at
from .relative import candidates as relative_candidates
from .relative import choose as relative_choice
from .relative_roots import logit_roots, probability_roots, wanted_tokens
from .signals import (
    Contribution,
    Cut,
    Writer,
    contribution_bound,
    contributions,
    coverage_cut,
    direct_effects,
    signal_projector,
    writers,
    written,
)
from .tracing import DEFAULTS, Model, Trace, logit_difference, logit_root_heads, prepare, slice_of, trace

__all__ = [
    "ACTIVATIONS",
    "DEFAULTS",
    "RELATIVE",
    "Contribution",
    "Cut",
    "Decomposition",
    "Head",
    "Key",
    "Model",
    "Slice",
    "Trace",
    "Writer",
    "attn_scale",
    "choose_slice",
    "contribution_bound",
    "contributions",
    "coverage_cut",
    "decompose",
    "direct_effects",
    "firings",
    "fold",
    "forward",
    "graph",
    "is_folded",
    "key",
    "labels",
    "last_traced",
    "led_to",
    "logit_difference",
    "logit_root_heads",
    "logit_roots",
    "matches",
    "named_roots",
    "paper_graph",
    "path_weights",
    "paths_by_layer",
    "paths_by_recursion",
    "pattern_bound",
    "prepare",
    "probability_roots",
    "product_bounds",
    "products",
    "random_model",
    "relative_candidates",
    "relative_choice",
    "relative_firings",
    "relative_trace",
    "running_sums",
    "score_bound",
    "signal_projector",
    "singular_gauge",
    "slice_of",
    "threshold_at",
    "top_layers",
    "trace",
    "turns",
    "wanted_tokens",
    "whole_slice",
    "writers",
    "written",
]

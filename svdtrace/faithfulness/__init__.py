"""Whether a traced circuit does what it is said to do: faithfulness, completeness, agreement with patching.

Tracing says what decides where heads look. So what is kept or ablated here is what steers attention, and that alone:
the queries and keys of the heads of layers l ≥ 1. Layer 0, the values v and the MLPs compute on the edited run's own
residual.

An *edge* is (writer w, reader l.n, role r of the token, side). Its signal stands at every token t with that role and
every k in the slice of one of the prompt's firings of l.n that have t on that side. A *candidate* is such an edge of
any writer that the trace allowed, whether the trace chose it or not; the constant is none, since a mean takes nothing
of it away. In the singular gauge, with the edited run's own LayerNorm scale s, a writer's term of a query's entry is
`term_wk = x_w·Â_k`, `x_w = γ ⊙ (y C)/s` (METHOD.md, section 5). Means are over all tokens up to the last traced one,
of all prompts, in the clean run, per head and k. Then, for keys (B̂) alike,

    keep:    q̂_k = mean q̂_k + Σ_{w in the set} (term_wk − mean term_wk)     nothing but the set's signals
    remove:  q̂_k = own q̂_k  − Σ_{w in the set} (term_wk − mean term_wk)     everything but the set's signals

Both are one expression: `own` is what the edited run computes, and all terms less their means sum to own − mean.

- faithfulness of a set = (m(keep) − m(nothing)) / (m(clean) − m(nothing)), m the mean of a measure
- completeness of a set = the same with m(remove): what is left without it, low if the set is complete
- attribution patching (Nanda 2023): − ∂m/∂(amount removed of an edge's signal) at the clean run
- path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023): m(clean) − m(that edge removed), all else recomputed

Two measures, since one may be blind: the logit difference at the last traced token, and the answer's log-probability
there. Where layer 0 and the values decide between answer and distractor, the logit difference does not feel where the
other layers look, although the answer itself is lost among all tokens; then its shares divide by nearly nothing.

1 `given` (what the trace says) → 2 `means` → 3 `editing`, `measuring` (logit differences of many sets) → 4 `orders`,
`curves`, `agreement`, `output_heads` → 5 `result` (puts it together), `figures`.
"""

"""Whether a traced circuit does what it is said to do: faithfulness, completeness, agreement with patching.

METHOD.md, section 15, defines it all: what an edge's signal is, keeping and removing a set of edges, and the measures.

1 `given` (what the trace says) → 2 `means` → 3 `editing`, `measuring` (logit differences of many sets) → 4 `orders`,
`curves`, `agreement`, `output_heads` → 5 `result` (puts it together), `figures`.
"""

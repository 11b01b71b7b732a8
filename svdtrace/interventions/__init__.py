"""Interventions: what becomes of the output when a signal between two heads is taken away (METHOD.md, section 10).

1 `clean`: one forward pass without edits, and all that is kept of it
2 `pairs`: where each named edge stands in each prompt, whether its reader fires there, and through which vectors
3 `signals`: what its writer sends along these vectors, and controls of equal size
4 `edits`: a set of edges as data: which values change, at which layer and token, by how much
5 `windows`: many edits in one compiled program, from the first edited layer and token on
6 `intervening`: the stages put together, their tables

Methods, controls and directions differ in data alone; one runner serves them all.
"""

"""The paper's protocol on a model, row by row beside what was published.

1 `published`: the published numbers, graph, prompts and effects, as they come with the package
2 `nearness`: which pairs of tokens lie so close to a threshold that rounding decides
3 `edge_sets`: the sets of edges that were taken away together, as names
4 `asked`: the numbers that are asked for, by topic and name, and what was published of them
5 `firing_numbers`, `graph_numbers`, `effect_numbers`: the same numbers measured, with the slack that ties leave
6 `comparison`: published beside measured, inside or outside of a tolerance
7 `protocol`: the stages put together
"""

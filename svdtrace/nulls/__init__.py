"""Which edges chance would give (METHOD.md, section 12).

1 `draws`: random slices, random orthogonal bases, shuffled partners, each drawn from a seed
2 `statistics`: the statistic of every candidate edge, observed and under a null, in one compiled scan over nulls
3 `passes`: that scan over all firings of all prompts, summed
4 `chance`: p-values, false-discovery rates, how large slices are in random bases
5 `surviving`: what of it a trace shows, and which of its edges remain
"""

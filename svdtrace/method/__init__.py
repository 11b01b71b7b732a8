"""docs/METHOD.md in code, one module a section: pure functions of arrays.

decomposition  section 2: Ω = A Bᵀ of every head by singular vectors
firings        section 3: where heads fire
cuts           the rule that slices and edges share: the smallest prefix of sorted values that passes a share of a total
slices         section 4: the singular vectors that make a score
contributions  section 5: what earlier writers put into a slice
edges          section 6: the writers that make up most of it
relative       section 14: attention to one key rather than to the others
taking         section 14.4: the writers without which a head would not fire
bounds         sections 3 and 4: what rounding can change
"""

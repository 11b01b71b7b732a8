"""What a result is made of, whichever command made it.

in_parts        tables that come in parts, so that memory does not grow with them
grouping        counting over parts
circuit_graph   the circuit counted from edges
prompts         a trace's prompts, read back from its table
decompositions  decompositions on disk: the cache, and files for other programs
versions        what computed a result
"""

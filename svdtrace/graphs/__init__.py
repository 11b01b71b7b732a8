"""What is done with a circuit's graph: parts of it, communities, differences, its files and its picture.

`svdtrace.results.circuit_graph` and `svdtrace.graphs.paper` count edges into a graph (METHOD.md, section 8); here
one is

    names         read from a node's name: the head, its layer, the token's role
    filters       reduced to what weighs enough, stands in enough prompts, layers, roles
    communities   divided into groups of heads that talk to each other
    difference    compared with another trace's
    paper         counted in the published way, from a whole trace
    formats       written and read as JSON, GraphML and DOT
    attribution   written for one prompt as circuit-tracer's attribution graphs are, which Neuronpedia shows;
                  attribution_names and influence belong to it
    layout        placed: layers upwards, roles side by side
    figures       drawn in layers
"""

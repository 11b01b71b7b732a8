"""What a process finds around it: names of paths, standard streams, settings of JAX, arguments that were typed.

The lowest room: it imports nothing but errors, and no library that is slow to load or that may refuse to.
"""

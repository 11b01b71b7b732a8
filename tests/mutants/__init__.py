"""Mutants: the source broken on purpose, once at a time, and what notices."""

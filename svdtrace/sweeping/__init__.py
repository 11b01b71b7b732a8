"""Sweeps: prompts streamed through a trace, part by part, into a folder that survives being killed.

windows   records in, checked prompts out, a part's worth at a time; bad ones are set aside
sizes     how much a part's worth is
folder    one sweep a folder: its lock, its manifest, and whether a sweep that is asked for is the one begun there
parts     a part's tables, whole or absent
found     the parts that are there, held against the prompts before anything is touched
running   all of it put together
"""

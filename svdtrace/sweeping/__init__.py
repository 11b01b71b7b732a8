"""Sweeps: prompts streamed through a trace, part by part, into a folder that survives being killed.

windows   records in, checked prompts out, a part's worth at a time; bad ones are set aside
folder    one sweep a folder: its lock, its manifest, and whether a sweep that is asked for is the one begun there
parts     a part's tables, whole or absent
running   all of it put together
"""

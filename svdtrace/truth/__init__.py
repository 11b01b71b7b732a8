"""Models whose circuit is known, and how much of it a method finds.

`drawing` (weights by hand) → `families` (circuits) and `background` → `planting` → `folder`; then `scoring`, and
`rivals` on the same models.
"""

"""The small model that comes with the project: its weights, and what opens them."""

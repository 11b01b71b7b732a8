"""Models trained here: texts in rows, updates, what a model can do as measured, its card."""

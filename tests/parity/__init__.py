"""Comparisons with PyTorch and Hugging Face's own GPT-2."""

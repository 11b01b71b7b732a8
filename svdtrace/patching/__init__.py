"""Activation patching of prompts: what each head, and the residual at each role, gives back of a corruption's fall."""

from svdtrace.patching.measuring import Patched, patch_prompts
from svdtrace.patching.twins import paired, swapped

__all__ = ["Patched", "paired", "patch_prompts", "swapped"]

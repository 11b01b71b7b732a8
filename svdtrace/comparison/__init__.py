"""What a writer's weight is worth: methods' weights beside what taking the writers out of a firing does."""

from svdtrace.comparison.comparing import Comparison, compare

__all__ = ["Comparison", "compare"]

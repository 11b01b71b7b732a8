"""All mutants, in the order of the page."""

from __future__ import annotations

from mutants import of_method, of_models, of_questions, of_tracing
from mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *of_models.MUTANTS,
    *of_method.MUTANTS,
    *of_tracing.MUTANTS,
    *of_questions.MUTANTS,
)

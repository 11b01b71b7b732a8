"""What a model's heads do, and what slices show of it (METHOD.md, section 9).

    found = svdtrace.characterise(model, svdtrace.prompts.ioi(64, model.tokenizer))
    found.tables["heads"], found.save("names")

Numerics: `slice_sizes`, `projections`, `concentration`, `directions`. Gathering: `usage`, `task_tokens`, `filtering`,
`signals`. `schemas` lists every table and its columns; `tabulating` fills them; `characterising` puts it together;
`pictures` draws.
"""

from svdtrace.characterisation.characterising import Characterisation, characterise
from svdtrace.characterisation.task_tokens import TaskTokens, task_tokens
from svdtrace.characterisation.usage import HeadFirings, HeadUsage, head_usage

__all__ = [
    "Characterisation",
    "HeadFirings",
    "HeadUsage",
    "TaskTokens",
    "characterise",
    "head_usage",
    "task_tokens",
]

"""How fast the tracer is and how much memory it takes, measured against what it is compared with in the same run.

1 `subject`: whose tracing is measured, and on which prompts
2 `ratios`: decomposition against dense SVDs, tracing against the forward pass
3 `processes`, `child`: memory, first results and linearity, each in a process of its own
4 `counts`, `roof`: how near each stage comes to what the machine can do
5 `running`: the list of all measurements, and one run of them
"""

from svdtrace.bench.forward import plain_forward
from svdtrace.bench.running import run
from svdtrace.bench.sizes import Sizes
from svdtrace.bench.subject import GPT2_SMALL, Subject, firing_model, random_prompts

__all__ = ["GPT2_SMALL", "Sizes", "Subject", "firing_model", "plain_forward", "random_prompts", "run"]

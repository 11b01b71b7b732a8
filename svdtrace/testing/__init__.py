"""Laws of the method in public, for any model and any decomposition: each gives a ratio, error over rounding.

decompositions  of U, S and V (METHOD.md, section 2)      explanations  of slices, contributions, edges and graphs
passes          of the forward pass                       invariances   what changes nothing: the gauge, order, padding
precisions      float64, files, gradients, nulls          comparing     two traces held against each other
listing         all laws, once                            verifying     those that apply to a model
cases           a model and prompts to try them on        strategies    Hypothesis draws them (needs `hypothesis`)

    for ratio in svdtrace.testing.verify(model):
        print(ratio.law, ratio.value, ratio.threshold, ratio.worst_at, ratio.verdict)
"""

from svdtrace.method.ratios import Ratio
from svdtrace.testing.cases import Case
from svdtrace.testing.listing import LAWS, Law, assert_hold, decomposition_laws, law
from svdtrace.testing.verifying import verify

__all__ = ["LAWS", "Case", "Law", "Ratio", "assert_hold", "decomposition_laws", "law", "verify"]

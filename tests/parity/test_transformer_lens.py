"""Every hook that TransformerLens has too, raw and folded: the same value, within what rounding allows."""

from __future__ import annotations

import numpy as np
import pytest

from parity.lens import SHARED, differences, held, theirs


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.full), "float64"])
@pytest.mark.parametrize("processing", ["raw", "folded"])
def test_the_same_values(processing: str, dtype: str):
    found = differences(processing, dtype)
    assert [each.hook for each in found] == [*SHARED, "logits"]
    wrong = {each.hook: (each.error, each.bound) for each in found if not each.error <= each.bound}
    assert not wrong


def test_all_hooks_are_shared_but_those_of_switches_that_are_off():
    """Their names say that nothing of a GPT-2's pass is left out here."""
    assert theirs("raw").keys() - {"logits"} == set(SHARED)


def test_the_two_processings_are_two():
    """Catches an archive that holds one of them twice."""
    assert not np.allclose(theirs("raw")["blocks.*.hook_resid_pre"], theirs("folded")["blocks.*.hook_resid_pre"])
    assert held()["tokens"].shape == (2, 6)

"""Training that is interrupted goes on to the same weights; what cannot go on is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from gpt2jax.errors import InputError
from weights_tools.training.kept import Kept, keep, place_of, read_kept
from weights_tools.training.recipe import Recipe
from weights_tools.training.updates import train

TINY = Recipe(steps=4, rows=2, n_layers=1, n_heads=2, d_model=8, n_ctx=32, warm_up=1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory):
    """The weights of training in one go, and those of training that was stopped after its second update."""
    place = place_of(tmp_path_factory.mktemp("kept") / "model")
    with jax.numpy_dtype_promotion("standard"):
        states: list[Kept] = []
        whole = train(TINY, keep=states.append, every=2)
        keep(place, TINY, replace(states[0], seconds=3.5))
        kept = read_kept(place, TINY)
        steps: list[int] = []
        again = train(TINY, lambda step, *_: steps.append(step), kept=kept)
    return place, states, kept, steps, whole, again


@pytest.mark.whole
def test_it_goes_on_to_the_same_weights_bit_for_bit(interrupted):
    _, states, kept, steps, whole, again = interrupted
    assert [each.step for each in states] == [2]
    assert (kept.step, kept.seconds, kept.random) == (2, 3.5, states[0].random)
    assert steps == [3, 4]
    for left, right in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(left, right)


def test_nothing_else_is_left_beside_what_is_kept(interrupted):
    place = interrupted[0]
    assert [each.name for each in place.parent.iterdir()] == ["model.unfinished.safetensors"]


def test_another_recipe_is_refused_with_what_differs(interrupted):
    with pytest.raises(InputError, match=r"another recipe \(seed 0, not 3\); go on with its settings"):
        read_kept(interrupted[0], replace(TINY, seed=3))


def test_a_damaged_file_is_refused(interrupted, tmp_path: Path):
    content = interrupted[0].read_bytes()
    for damaged in (content[:-9], b"", b"{}"):
        (tmp_path / "x.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match=r"no training that can go on .* delete it to begin anew"):
            read_kept(tmp_path / "x.safetensors", TINY)
    assert read_kept(tmp_path / "none", TINY) is None


def test_arrays_of_another_model_are_refused(interrupted):
    kept = interrupted[2]
    with pytest.raises(InputError, match="not of this model"):
        train(TINY, kept=replace(kept, arrays=kept.arrays[1:]))

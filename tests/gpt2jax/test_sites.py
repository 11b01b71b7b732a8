"""Names of taps and hooks: which there are, and what is said of those that there are not."""

from __future__ import annotations

import numpy as np
import pytest
from small_model import jax_model, small_model

import gpt2jax
from gpt2jax.errors import ActivationNameError
from gpt2jax.sites import BLOCK_SITES, STEM_SITES, SiteName, group_hooks, group_taps, parse


def test_every_name_is_read():
    for site in STEM_SITES:
        assert parse(site, 12) == SiteName(site, None)
    for site in BLOCK_SITES:
        assert parse(f"blocks.*.{site}", 12) == SiteName(site, "*")
        assert parse(f"blocks.0.{site}", 12) == SiteName(site, 0)
        assert parse(f"blocks.11.{site}", 12) == SiteName(site, 11)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("blocks.9.attn.hook_patern", "blocks.9.attn.hook_pattern"),
        ("blocks.*.hook_z", "blocks.*.attn.hook_z"),
        ("blocks.3.attn.hook_attn_score", "blocks.3.attn.hook_attn_scores"),
        ("blocks.0.mlp.hook_posts", "blocks.0.mlp.hook_post"),
        ("blocks.-1.hook_resid_pre", "blocks.*.hook_resid_pre"),
        ("hook_embeds", "hook_embed"),
        ("ln_final.hook_normalised", "ln_final.hook_normalized"),
    ],
)
def test_an_unknown_name_brings_near_ones(name: str, near: str):
    with pytest.raises(ActivationNameError) as caught:
        parse(name, 12)
    listed = str(caught.value).partition("near names: ")[2].split(", ")
    assert f'"{name}"' in str(caught.value)
    assert near in listed
    assert len(listed) <= 3


def test_a_name_like_no_other_brings_all():
    with pytest.raises(ActivationNameError) as caught:
        parse("", 12)
    assert all(site in str(caught.value) for site in (*STEM_SITES, *BLOCK_SITES))


def test_layers_that_there_are_not():
    with pytest.raises(ActivationNameError, match=r'"blocks.12.attn.hook_z": the model has layers 0 to 11'):
        parse("blocks.12.attn.hook_z", 12)


@pytest.mark.parametrize("asked", [{"taps": ["blocks.0.hook_rezid_pre"]}, {"hooks": {"blocks.0.hook_rezid_pre": abs}}])
def test_forward_says_so_of_taps_and_of_hooks(asked: dict):
    model = jax_model(*small_model())
    with pytest.raises(ActivationNameError, match=r"near names: .*blocks\.0\.hook_resid_pre"):
        gpt2jax.forward(model, np.zeros((1, 2), np.int32), **asked)


def test_groups_keep_their_order():
    hooks = {"blocks.*.hook_mlp_out": abs, "hook_embed": abs, "blocks.3.hook_mlp_out": abs}
    assert group_hooks(hooks, 12) == {"hook_mlp_out": [("*", abs), (3, abs)], "hook_embed": [(None, abs)]}
    assert group_hooks(None, 12) == {}
    names = ["blocks.1.attn.hook_q", "hook_embed", "blocks.1.attn.hook_q"]
    assert group_taps(names, 12) == (SiteName("attn.hook_q", 1), SiteName("hook_embed", None))

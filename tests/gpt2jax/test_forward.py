"""The forward pass against the oracle, its inputs, and JAX's transformations of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracle.model import ACTIVATIONS as ORACLES
from oracle.model import block, normalize
from running_bound import EPS64, RunningBound, agrees_with_differences, close, truth
from small_model import jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax.errors import CheckpointError, InputError
from gpt2jax.sites import BLOCK_SITES, STEM_SITES

# tap → the oracle's name
STEM = {
    "hook_embed": "embed",
    "hook_pos_embed": "pos",
    "ln_final.hook_scale": "ln_final_scale",
    "ln_final.hook_normalized": "ln_final_x",
}
BLOCK = {
    "hook_resid_pre": "resid_pre",
    "ln1.hook_scale": "ln1_scale",
    "ln1.hook_normalized": "ln1_x",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    "attn.hook_z": "z",
    "attn.hook_result": "head_out",
    "hook_attn_out": "attn_out",
    "hook_resid_mid": "resid_mid",
    "ln2.hook_scale": "ln2_scale",
    "ln2.hook_normalized": "ln2_x",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_post",
    "hook_mlp_out": "mlp_out",
    "hook_resid_post": "resid_post",
}
EVERYTHING = (*STEM, *(f"blocks.*.{site}" for site in BLOCK))
SWITCHES = [(True, False), (False, False), (True, True), (False, True)]
# Hugging Face's names for the oracle's functions.
SAME = {"swish": "silu"}
CASES = [
    {"activation": name, "scale_attn_weights": weights, "scale_attn_by_inverse_layer_idx": inverse}
    for place, name in enumerate((*ORACLES, *SAME))
    for weights, inverse in [SWITCHES[place % len(SWITCHES)]]
]


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_every_value_equals_the_oracles(case: dict, float64: None) -> None:
    assert (STEM.keys(), BLOCK.keys()) == (STEM_SITES.keys(), BLOCK_SITES.keys())
    params, config = small_model(seed=1, **case)
    tokens = random_tokens(5, 7, config)
    named = config | {"activation": SAME.get(config["activation"], config["activation"])}
    expected, bound = truth(params, named, tokens, EPS64)
    out = gpt2jax.forward(jax_model(params, config, jnp.float64), tokens, taps=EVERYTHING)
    assert out.taps.keys() == set(EVERYTHING)
    for tap, value in out.taps.items():
        name = STEM.get(tap) or BLOCK[tap.removeprefix("blocks.*.")]
        assert value.dtype == jnp.float64
        assert close(value, expected[name], bound[name]), tap
    assert close(out.logits, expected["logits"], bound["logits"])


@pytest.fixture(scope="module")
def small() -> tuple[dict, dict, gpt2jax.Model]:
    """The oracle's parameters and configuration, and the same model in float32, tied."""
    params, config = small_model(seed=2, tied=True)
    return params, config, jax_model(params, config)


@pytest.fixture(scope="module")
def passed(small: tuple) -> tuple[np.ndarray, gpt2jax.Output]:
    """Two prompts and everything that the small model makes of them."""
    _, config, model = small
    tokens = random_tokens(2, 7, config)
    return tokens, gpt2jax.forward(model, tokens, taps=EVERYTHING)


def test_float32_layer_by_layer(small: tuple, passed: tuple) -> None:
    """Each layer equals the oracle's from the very residual that entered it, within float32's own bound."""
    params, config, _ = small
    params, eps = {name: np.float64(value) for name, value in params.items()}, float(np.finfo(np.float32).eps)
    tokens, out = passed
    for prompt in range(len(tokens)):
        resid = np.float64(out.taps["blocks.*.hook_resid_pre"][:, prompt])
        last = np.float64(out.taps["blocks.*.hook_resid_post"][-1, prompt])
        layers = [block(params, config, layer, each) for layer, each in enumerate(resid)]
        acts = {name: np.stack([each[name] for each in layers]) for name in layers[0]}
        judge = RunningBound(params, config, acts, eps)
        for layer, each in enumerate(layers):
            bound = judge.block(layer, np.zeros_like(last))
            for site, name in BLOCK.items():
                value = np.asarray(out.taps[f"blocks.*.{site}"][layer, prompt]).reshape(each[name].shape)
                seen = np.isfinite(each[name])
                assert np.all(np.abs(value[seen] - each[name][seen]) <= bound[name][seen]), (layer, site)
        _, read = normalize(params, config, "ln_final", None, last)
        _, read_off = judge.layer_norm(last, np.zeros_like(last), "ln_final", None)
        off = np.abs(out.logits[prompt] - read @ judge.params["W_U"])
        assert np.all(off <= judge.linear(read, read_off, "U", ()))


def test_padding_on_either_side_changes_nothing(float64: None) -> None:
    params, config = small_model(seed=3)
    model = jax_model(params, config, jnp.float64)
    lengths, width = [3, 6, 7], 7
    prompts = [random_tokens(1, length, config, seed=length)[0] for length in lengths]
    out = {}
    for side in ("right", "left"):
        tokens, mask, positions = np.zeros((3, len(lengths), width), np.int32)
        for row, prompt in enumerate(prompts):
            real = slice(0, len(prompt)) if side == "right" else slice(width - len(prompt), width)
            tokens[row, real], mask[row, real], positions[row, real] = prompt, 1, np.arange(len(prompt))
        for filler in (0, 5):
            filled = np.where(mask, tokens, filler)
            out[side, filler] = gpt2jax.forward(
                model, filled, mask=mask.astype(bool), positions=positions, taps=["blocks.*.attn.hook_pattern"]
            )
        assert np.all(np.isfinite(out[side, 5].logits))
        pattern = np.asarray(out[side, 5].taps["blocks.*.attn.hook_pattern"])
        assert np.all(np.where(mask.astype(bool)[:, None, None, :], 0, pattern) == 0)
        for row, prompt in enumerate(prompts):
            real = slice(0, len(prompt)) if side == "right" else slice(width - len(prompt), width)
            expected, bound = truth(params, config, [prompt], EPS64)
            assert close(out[side, 0].logits[row, real], expected["logits"][0], bound["logits"][0])
            assert np.array_equal(out[side, 0].logits[row, real], out[side, 5].logits[row, real])
            assert close(pattern[:, row, :, real, real], expected["pattern"][:, 0], bound["pattern"][:, 0])


def test_positions_are_where_the_embedding_is_looked_up(small: tuple) -> None:
    params, config, model = small
    tokens, positions = random_tokens(1, 4, config), np.array([[9, 2, 2, 15]], np.int32)
    taps = gpt2jax.forward(model, tokens, positions=positions, taps=["hook_pos_embed"]).taps
    assert np.array_equal(taps["hook_pos_embed"][0], params["W_pos"][positions[0]])


def test_only_what_is_asked_for_is_kept(small: tuple, passed: tuple) -> None:
    params, config, model = small
    tokens, everything = passed
    bare, stacked = gpt2jax.forward(model, tokens), everything.taps
    assert bare.taps == {}
    names = ["blocks.1.attn.hook_z", "hook_embed", "blocks.*.attn.hook_q", "blocks.0.attn.hook_result"]

    def values(params: gpt2jax.Params) -> dict[str, jax.Array]:
        return gpt2jax.forward(model.replace(params=params), tokens, taps=[*names, names[0]]).taps

    found = values(model.params)
    assert list(found) == names
    assert np.array_equal(found["hook_embed"], stacked["hook_embed"])
    # Programs that keep other values may round differently in the last places: two passes, each within its bound.
    _, bound = truth(params, config, tokens, float(np.finfo(np.float32).eps))
    for name, key, layer in ((names[0], "z", 1), (names[2], "q", ...), (names[3], "head_out", 0)):
        whole = np.asarray(stacked[f"blocks.*.{name.split('.', 2)[2]}"])[layer]
        assert found[name].shape == whole.shape
        assert np.all(np.abs(found[name] - whole) <= np.minimum(2 * bound[key][layer], 1e-3))
    assert not np.array_equal(stacked["blocks.*.attn.hook_z"][0], stacked["blocks.*.attn.hook_z"][1])
    # One stacked output, hook_q; a single layer's value is carried along, not stacked.
    (scan,) = _scans(jax.make_jaxpr(values)(model.params).jaxpr)
    inside = scan.params["jaxpr"].out_avals
    assert [out.aval.shape for out, each in zip(scan.outvars, inside, strict=True) if out.aval.shape != each.shape] == [
        found["blocks.*.attn.hook_q"].shape
    ]


def _scans(jaxpr: Any) -> list[Any]:
    found = []
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if equation.primitive.name == "scan":
            found.append(equation)
        elif inner is not None:
            found += _scans(inner.jaxpr)
    return found


@pytest.mark.whole
def test_jit_vmap_and_sharding_of_parameters(float64: None) -> None:
    cases = [small_model(seed=seed) for seed in (4, 5)]
    config = cases[0][1]
    tokens = random_tokens(2, 6, config)
    models = [jax_model(params, config, jnp.float64) for params, _ in cases]
    judged = [truth(params, config, tokens, EPS64) for params, _ in cases]

    def logits(model: gpt2jax.Model) -> jax.Array:
        return gpt2jax.forward(model, tokens).logits

    def check(found: jax.Array, case: int) -> None:
        assert close(found, judged[case][0]["logits"], judged[case][1]["logits"])

    compiled = jax.jit(logits)
    check(compiled(models[0]), 0)
    check(compiled(models[1]), 1)
    # As a list of arrays: the tests hold each array of `Params` to its axes, and stacked models have one more.
    stacked = [jnp.stack(arrays) for arrays in zip(*map(jax.tree.leaves, models), strict=True)]
    structure = jax.tree.structure(models[0])
    both = jax.vmap(lambda leaves: logits(jax.tree.unflatten(structure, leaves)))(stacked)
    check(both[0], 0)
    check(both[1], 1)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("layer",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    by_layer = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("layer"))
    placed = jax.device_put(models[1].params, spread)
    placed = placed.replace(blocks=jax.device_put(placed.blocks, by_layer))
    assert placed.blocks.W_Q.sharding == by_layer
    check(logits(models[1].replace(params=placed)), 1)


@pytest.mark.whole
def test_gradient_of_parameters_is_the_difference_quotient(float64: None) -> None:
    params, config = small_model(seed=6, n_layers=3)
    model, tokens = jax_model(params, config, jnp.float64), random_tokens(2, 5, config)
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda array: jnp.asarray(rng.normal(size=array.shape)), model.params)

    @jax.jit
    @jax.value_and_grad
    def loss(params: gpt2jax.Params) -> jax.Array:
        scores = jax.nn.log_softmax(gpt2jax.forward(model.replace(params=params), tokens).logits)
        return -jnp.mean(jnp.take_along_axis(scores[:, :-1], jnp.asarray(tokens)[:, 1:, None], axis=-1))

    def moved(step: float) -> float:
        return float(loss(jax.tree.map(lambda array, each: array + step * each, model.params, way))[0])

    pairs = zip(jax.tree.leaves(loss(model.params)[1]), jax.tree.leaves(way), strict=True)
    slope = float(sum(jnp.sum(left * right) for left, right in pairs))
    assert abs(slope) > 1e-2
    assert agrees_with_differences(moved, slope)


def test_inputs_that_cannot_be_read(small: tuple) -> None:
    _, config, model = small
    good = random_tokens(2, 4, config)
    bad_positions = np.full((2, 4), 16, np.int32)
    for tokens, more, words in [
        (np.full((1, 2), 23, np.int32), {}, "token id 23 is outside 0 to 22"),
        (np.full((1, 2), -1, np.int32), {}, "token id -1 is outside 0 to 22"),
        (np.zeros((1, 0), np.int32), {}, r"shape \(1, 0\); give a non-empty"),
        (np.zeros((0, 3), np.int32), {}, r"shape \(0, 3\); give a non-empty"),
        (np.zeros((1, 17), np.int32), {}, "17 tokens, but the model reads at most 16"),
        (good, {"mask": np.ones((2, 3), bool)}, r"mask has shape \(2, 3\), tokens \(2, 4\)"),
        (good, {"positions": np.zeros((1, 4), np.int32)}, r"positions has shape \(1, 4\), tokens \(2, 4\)"),
        (good, {"positions": bad_positions}, "position 16 is outside 0 to 15; count from 0"),
    ]:
        # Where a shape is wrong the signature check of the tests must not come first.
        unchecked = getattr(gpt2jax.forward, "__wrapped__", gpt2jax.forward)
        with pytest.raises(InputError, match=words) as caught:
            unchecked(model, tokens, **more)
        assert "\n" not in str(caught.value)


def test_one_name_or_an_iterator_of_names(small: tuple) -> None:
    _, config, model = small
    tokens = random_tokens(2, 4, config)
    tap = "blocks.*.attn.hook_pattern"
    several = gpt2jax.forward(model, tokens, taps=[tap, "hook_embed"]).taps
    one = gpt2jax.forward(model, tokens, taps=tap).taps
    assert one.keys() == {tap}
    np.testing.assert_array_equal(one[tap], several[tap])
    assert gpt2jax.forward(model, tokens, taps=iter([tap, "hook_embed"])).taps.keys() == several.keys()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tokens": [[1, 2], [3]]}, "token ids are no array .*; pad them to one length"),
        ({"tokens": [["Mary", "John"]]}, "token ids have dtype .*; give integers"),
        ({"hooks": ["blocks.0.attn.hook_z"]}, "hooks are a list; give a dict from names to functions"),
        ({"hooks": "blocks.0.attn.hook_z"}, "hooks are a str; give a dict from names to functions"),
        ({"hooks": {"hook_embed": 0}}, 'the hook on "hook_embed" is a int; give a function of the value'),
    ],
)
def test_one_thing_where_several_are_meant_is_refused_in_words(
    small: tuple, given: dict, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Users have no checks of signatures before ours.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match=words):
        gpt2jax.forward(small[2], **{"tokens": np.zeros((1, 2), np.int32)} | given)


def test_a_part_of_a_model_cannot_run(small: tuple) -> None:
    _, config, model = small
    part = model.replace(params=model.params.replace(W_E=None))
    with pytest.raises(CheckpointError, match="load the whole model"):
        gpt2jax.forward(part, random_tokens(1, 2, config))


def test_more_tokens_than_positions_with_positions_given(small: tuple) -> None:
    """Positions say where tokens stand; how many there are is then no limit."""
    _, config, model = small
    positions = np.tile(np.arange(10, dtype=np.int32), 2)[None]
    assert gpt2jax.forward(model, random_tokens(1, 20, config), positions=positions).logits.shape == (1, 20, 23)


def test_a_tied_model_equals_its_untied_copy(small: tuple, passed: tuple) -> None:
    params, config, model = small
    tokens, tied = passed
    assert model.params.W_U is None
    untied = jax_model(params | {"W_U": params["W_E"].T, "b_U": np.zeros(23, np.float32)}, config)
    found = gpt2jax.forward(untied, tokens, taps=["ln_final.hook_normalized"])
    weights = np.float64(params["W_E"].T)
    for each in (tied, found):
        read = np.float64(each.taps["ln_final.hook_normalized"])
        bound = (len(weights) + 1) * np.finfo(np.float32).eps * (np.abs(read) @ np.abs(weights))
        assert np.all(np.abs(each.logits - read @ weights) <= bound)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_weights_compute_in_float32(small: tuple, passed: tuple, dtype: jnp.dtype) -> None:
    """They give what the same weights give once they are float32."""
    params, config, _ = small
    tokens, _ = passed
    half = jax_model(params, config, dtype)
    single = half.replace(params=jax.tree.map(lambda array: array.astype(jnp.float32), half.params))
    found, expected = (gpt2jax.forward(each, tokens, taps=["blocks.*.hook_resid_post"]) for each in (half, single))
    assert found.logits.dtype == found.taps["blocks.*.hook_resid_post"].dtype == jnp.float32
    # Two programs of fewer than 1000 roundings in a row each; half precision would be off by 10⁴ times eps.
    bound = 1000 * np.finfo(np.float32).eps * np.max(np.abs(expected.logits))
    assert np.max(np.abs(found.logits - expected.logits)) <= bound


def test_a_model_says_what_it_is_on_one_line(small: tuple) -> None:
    _, config, model = small
    shown = repr(model)
    assert "\n" not in shown
    assert shown.startswith(
        f"Model({config['n_layers']} layers of {config['n_heads']} heads, d_model {config['d_model']}"
    )
    assert "raw, float32" in shown

"""`weights-tools inspect`: what a checkpoint holds, what it is good for, what is strange."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints.folders import CONFIG, tensors, write_folder
from safetensors.numpy import save_file

import gpt2jax
from svdtrace.atlas.composing import near_blocks
from svdtrace.bundled.model import bundled_folder
from svdtrace.method.decomposition import decompose
from weights_tools.cli import main


def inspected(path: Path, capsys) -> dict:
    assert main(["inspect", str(path), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def test_every_tensor_in_numbers(tmp_path, capsys):
    weights = tensors(dtype="F16") | {"steps": np.arange(3)}
    weights["transformer.wpe.weight"][0, :2] = np.nan, -np.inf
    write_folder(tmp_path / "model", weights)
    found = {each["name"]: each for each in inspected(tmp_path / "model", capsys)["tensors"]}
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        each, wide = found[name], tensor.astype(np.float64)
        assert (each["shape"], each["dtype"]) == (list(tensor.shape), "F16" if name != "steps" else "I64")
        assert each["not_finite"] == np.count_nonzero(~np.isfinite(wide))
        if name == "steps":
            assert each["norm"] is each["largest"] is None
            continue
        finite = wide[np.isfinite(wide)]
        # A sum of squares in another order.
        assert each["norm"] == pytest.approx(np.linalg.norm(finite), rel=wide.size * np.finfo(np.float64).eps)
        assert each["largest"] == np.abs(finite).max()


def test_heads_are_those_that_svdtrace_decomposes(capsys):
    model = gpt2jax.load(bundled_folder())
    found = inspected(bundled_folder(), capsys)
    heads = {(each["layer"], each["head"]): each for each in found["heads"]}
    assert len(heads) == model.config.n_layers * model.config.n_heads
    decomposed = decompose(gpt2jax.fold(model))
    within, S = np.asarray(decomposed.within_rank()), np.asarray(decomposed.S)
    block = near_blocks(S, within)
    # Norms of an SVD in float32 are right to eps × rows × σ_0.
    bound = np.finfo(np.float32).eps * (model.config.d_model + 1)
    for (layer, head), each in heads.items():
        assert each["sigma"] == pytest.approx(float(S[layer, head, 0]), rel=float(bound))
        assert each["within_rank"] == within[layer, head].sum()
        alike = [np.count_nonzero(block[layer, head] == each) > 1 for each in block[layer, head]]
        assert each["near"] == np.count_nonzero(alike)
        for kind in "QK":
            W = np.asarray(getattr(model.params.blocks, f"W_{kind}"), np.float64)[layer, head]
            assert each[f"condition_W_{kind}"] == pytest.approx(np.linalg.cond(W), rel=1e-9)
    assert found["near"]["vectors"] == sum(each["near"] for each in heads.values()) > 0
    assert found["near"]["of"] == within.sum()


def test_weights_without_full_rank_have_no_condition(tmp_path, capsys):
    weights = tensors()
    weights["transformer.h.1.attn.c_attn.weight"][:, 0] = 0  # a direction of head 1.0's query
    write_folder(tmp_path / "model", weights)
    heads = inspected(tmp_path / "model", capsys)["heads"]
    assert [each["condition_W_Q"] is None for each in heads] == [False, False, True, False, False, False]
    assert main(["inspect", str(tmp_path / "model")]) == 0
    assert "to no full rank" in capsys.readouterr().out


def test_a_whole_model_can_be_used_for_all(capsys):
    found = inspected(bundled_folder(), capsys)
    assert found["uses"] == {name: {"possible": True, "why": None} for name in ("forward", "decompose", "texts")}
    assert (found["tied"], found["tokenizer"], found["strange"], found["equal"]) == (True, "tokenizer.json", [], [])
    assert found["config"]["n_heads"] == 8


def test_what_is_missing_is_said(tmp_path, capsys):
    heads = {name: each for name, each in tensors().items() if ".attn." in name or ".ln_1." in name}
    write_folder(tmp_path / "model", heads)
    uses = inspected(tmp_path / "model", capsys)["uses"]
    assert "missing ln_f.bias" in uses["forward"]["why"]
    assert uses["decompose"] == {"possible": True, "why": None}
    assert "no tokenizer" in uses["texts"]["why"]


def test_what_is_strange_is_said(tmp_path, capsys):
    weights = {f"_orig_mod.{name}": each for name, each in tensors().items()}
    weights |= {"lm_head.weight": weights["_orig_mod.transformer.wte.weight"].copy(), "score.weight": np.ones((2, 8))}
    folder = write_folder(tmp_path / "model", weights)
    # A vocabulary of 14 in front of a model of 11.
    vocabulary = {f"{n:02}": n for n in range(14)}
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "00"}, "added_tokens": []})
    )
    found = inspected(folder, capsys)
    said = " ".join(found["strange"])
    assert 'bear the prefix "_orig_mod.", which is stripped' in said
    assert "score.weight of another head: left out" in said
    assert "larger than the vocabulary of 11: 3 of its tokens have no embedding ('11' is 11)" in said
    assert found["equal"] == [["_orig_mod.transformer.wte.weight", "lm_head.weight"]]


def test_not_finite_weights_are_counted_and_in_the_way(tmp_path, capsys):
    weights = tensors()
    weights["transformer.h.2.mlp.c_fc.weight"][0] = np.inf
    write_folder(tmp_path / "model", weights)
    uses = inspected(tmp_path / "model", capsys)["uses"]
    assert "not finite in transformer.h.2.mlp.c_fc.weight" in uses["forward"]["why"]
    assert uses["decompose"]["possible"]


def test_an_unknown_activation_and_a_damaged_configuration(tmp_path, capsys):
    write_folder(tmp_path / "odd", config=CONFIG | {"activation_function": "snake"})
    assert '"snake", which is not known' in inspected(tmp_path / "odd", capsys)["uses"]["forward"]["why"]
    folder = write_folder(tmp_path / "cut")
    (folder / "config.json").write_text('{"n_layer": 3')
    found = inspected(folder, capsys)
    assert "not JSON" in found["uses"]["decompose"]["why"]
    assert found["config"] is None
    assert len(found["tensors"]) == len(tensors())


def test_a_file_by_itself(tmp_path, capsys):
    save_file({"a": np.zeros((2, 2), np.float32), "b": np.ones((2, 2), np.float32)}, tmp_path / "some.safetensors")
    found = inspected(tmp_path / "some.safetensors", capsys)
    assert [each["name"] for each in found["tensors"]] == ["a", "b"]
    assert (found["uses"], found["heads"], found["equal"]) == ({}, [], [])


def test_layers_are_gathered_in_the_table(tmp_path, capsys):
    write_folder(tmp_path / "model")
    assert main(["inspect", str(tmp_path / "model")]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("transformer.h.*.mlp.c_fc.weight"))
    assert row.split()[1:6] == ["F32", "8", "×", "12", "3"]
    assert "forward: yes" in lines
    assert any("singular values have a neighbour within 1 %" in line for line in lines)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"\x80\x04"), "expected a folder or a .safetensors file"),
        (lambda path: path.mkdir(), "no model.safetensors nor"),
        (lambda path: None, "no hub id"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, capsys, make, message):
    make(tmp_path / "weights.bin")
    assert main(["inspect", str(tmp_path / "weights.bin")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_a_file_that_ends_early_is_said(tmp_path, capsys):
    path = write_folder(tmp_path / "model") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    assert main(["inspect", str(tmp_path / "model")]) == 2
    assert "not a complete safetensors file" in capsys.readouterr().err

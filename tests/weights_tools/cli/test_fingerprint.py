"""`weights-tools fingerprint`: the name that manifests have."""

from __future__ import annotations

import json

import numpy as np
from checkpoints.folders import tensors, write_folder

import gpt2jax
from svdtrace.bundled.model import bundled_folder
from weights_tools.cli import main


def test_it_is_the_one_that_manifests_have(capsys):
    assert main(["fingerprint", str(bundled_folder())]) == 0
    said = capsys.readouterr()
    model = gpt2jax.load(bundled_folder())
    assert said.out.splitlines()[0] == gpt2jax.fingerprint(model)
    assert "blocks.W_Q" in said.out
    assert "n_layers 4" in said.out
    assert said.err == ""


def test_files_do_not_matter_but_numbers_do(tmp_path, capsys):
    names = []
    for number, (prefix, shards, scale) in enumerate([("", None, 1), ("transformer.", 2, 1), ("", None, 2)]):
        weights = {name: each * np.float32(scale) for name, each in tensors(prefix=prefix).items()}
        write_folder(tmp_path / str(number), weights, n_shards=shards)
        assert main(["fingerprint", str(tmp_path / str(number)), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["weights"] == sum(each.size for each in weights.values())
        names.append(found["fingerprint"])
    assert names[0] == names[1] != names[2]


def test_heads_alone_have_the_name_that_decompose_gives_them(tmp_path, capsys):
    heads = {name: each for name, each in tensors().items() if ".attn." in name or ".ln_1." in name}
    write_folder(tmp_path / "model", heads)
    assert main(["fingerprint", str(tmp_path / "model"), "--json"]) == 0
    said = capsys.readouterr()
    assert "this is of its heads" in said.err
    alone = gpt2jax.load(tmp_path / "model", parts="heads")
    assert json.loads(said.out)["fingerprint"] == gpt2jax.fingerprint(alone)

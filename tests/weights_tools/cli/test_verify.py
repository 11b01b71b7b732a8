"""`weights-tools verify`: what is the same whatever the files look like, and what differs by how much."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from checkpoints.folders import tensors, write_folder

from weights_tools.cli import main

FC = "h.1.mlp.c_fc.weight"


def verified(here, there, capsys) -> tuple[int, dict[str, dict]]:
    status = main(["verify", str(here), "--against", str(there), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["same"] == (status == 0)
    return status, {each["name"]: each for each in found["compared"]}


def test_other_names_shards_headers_and_a_tied_copy_are_the_same(tmp_path, capsys):
    weights = tensors()
    write_folder(tmp_path / "a", weights)
    wrapped = {f"_orig_mod.{name}": each for name, each in reversed(weights.items())}
    wrapped |= {"lm_head.weight": weights["transformer.wte.weight"].copy()}
    wrapped |= {"_orig_mod.transformer.h.0.attn.bias": np.ones((1, 1, 7, 7), np.float32)}
    write_folder(tmp_path / "b", wrapped, n_shards=3, metadata={"made": "elsewhere"})
    for here, there in (("a", "b"), ("b", "a")):
        status, found = verified(tmp_path / here, tmp_path / there, capsys)
        assert status == 0
        assert {each["verdict"] for each in found.values()} == {"same"}
        assert len(found) == len(weights)


def test_equal_values_of_another_dtype_are_the_same_and_said(tmp_path, capsys):
    half = tensors(dtype="F16")
    write_folder(tmp_path / "a", half)
    write_folder(tmp_path / "b", {name: each.astype(np.float32) for name, each in half.items()})
    status, found = verified(tmp_path / "a", tmp_path / "b", capsys)
    assert status == 0
    assert {each["verdict"] for each in found.values()} == {"same values, other dtype"}


def test_what_differs_and_by_how_much(tmp_path, capsys):
    weights = tensors()
    write_folder(tmp_path / "b", weights)
    changed = {name: each.copy() for name, each in weights.items()}
    changed[f"transformer.{FC}"][2, 3] += np.float32(0.5)
    changed[f"transformer.{FC}"][0, 0] *= np.float32(2)
    changed["transformer.wpe.weight"] = changed["transformer.wpe.weight"][:5].copy()
    del changed["transformer.ln_f.bias"]
    changed["v_head.summary.weight"] = np.ones((1, 8), np.float32)
    write_folder(tmp_path / "a", changed)
    status, found = verified(tmp_path / "a", tmp_path / "b", capsys)
    assert status == 1
    verdicts = {name: each["verdict"] for name, each in found.items() if each["verdict"] != "same"}
    assert verdicts == {
        FC: "differs",
        "wpe.weight": "other shape",
        "ln_f.bias": "only there",
        "v_head.summary.weight": "only here",
    }
    here, there = (each[f"transformer.{FC}"].astype(np.float64) for each in (changed, weights))
    assert found[FC]["differing"] == 2
    assert found[FC]["largest"] == np.abs(here - there).max()
    # Sums of a hundred squares in another order.
    expected = np.linalg.norm(here - there) / np.linalg.norm(there)
    assert found[FC]["relative"] == pytest.approx(expected, rel=100 * np.finfo(np.float64).eps)
    assert main(["verify", str(tmp_path / "a"), "--against", str(tmp_path / "b")]) == 1
    line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith(FC))
    assert "2 of 96" in line


def test_bits_and_nan_are_told_apart(tmp_path, capsys):
    weights = tensors()
    weights["transformer.ln_f.bias"][:2] = 0.0, np.nan
    write_folder(tmp_path / "b", weights)
    changed = weights | {"transformer.ln_f.bias": weights["transformer.ln_f.bias"].copy()}
    changed["transformer.ln_f.bias"][0] = -0.0
    write_folder(tmp_path / "a", changed)
    _, found = verified(tmp_path / "a", tmp_path / "b", capsys)
    assert (found["ln_f.bias"]["differing"], found["ln_f.bias"]["largest"]) == (1, 0.0)
    changed["transformer.ln_f.bias"][1] = 3
    write_folder(tmp_path / "a", changed)
    _, found = verified(tmp_path / "a", tmp_path / "b", capsys)
    assert (found["ln_f.bias"]["differing"], found["ln_f.bias"]["largest"]) == (2, None)


def test_hashes_of_tensors_are_a_list_to_compare_with(tmp_path, capsys):
    weights = tensors()
    write_folder(tmp_path / "a", weights)
    assert main(["verify", str(tmp_path / "a")]) == 0
    listed = capsys.readouterr().out
    name, tensor = "transformer.wpe.weight", weights["transformer.wpe.weight"]
    digest = hashlib.sha256(f"F32 {list(tensor.shape)}\n".encode() + tensor.tobytes()).hexdigest()
    assert f"{digest}  {name}\n" in listed
    (tmp_path / "SUMS").write_text(listed)
    write_folder(tmp_path / "b", weights, n_shards=2)
    assert main(["verify", str(tmp_path / "b"), "--against", str(tmp_path / "SUMS")]) == 0
    capsys.readouterr()
    weights[name][0, 0] += 1
    weights["extra"] = np.ones(2, np.float32)
    del weights["transformer.ln_f.bias"]
    write_folder(tmp_path / "c", weights)
    status, found = verified(tmp_path / "c", tmp_path / "SUMS", capsys)
    verdicts = {each: found[each]["verdict"] for each in found if found[each]["verdict"] != "same"}
    assert status == 1
    assert verdicts == {name: "differs", "extra": "only here", "transformer.ln_f.bias": "only there"}


def test_hashes_of_files_as_sha256sum_writes_them(tmp_path, capsys):
    folder = write_folder(tmp_path / "a")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} *{path.name}" for path in sorted(folder.iterdir())]
    (tmp_path / "SHA256SUMS").write_text("# made elsewhere\n" + "\n".join(lines) + "\n")
    assert verified(folder, tmp_path / "SHA256SUMS", capsys)[0] == 0
    (folder / "config.json").write_text("{}")
    status, found = verified(folder, tmp_path / "SHA256SUMS", capsys)
    assert status == 1
    assert {name: each["verdict"] for name, each in found.items()} == {
        "config.json": "differs",
        "model.safetensors": "same",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no hashes"),
        ("abc  name\n", "line 1: expected a SHA-256 and a name"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_lists_that_are_none(tmp_path, capsys, content, message):
    write_folder(tmp_path / "a")
    (tmp_path / "SUMS").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["verify", str(tmp_path / "a"), "--against", str(tmp_path / "SUMS")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err

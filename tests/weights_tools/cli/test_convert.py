"""`weights-tools convert`: exact round trips out of every program's layout, and refusals by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints.folders import CONFIG, NUMPY_DTYPES, tensors, write_folder
from safetensors.numpy import load_file, save_file

import gpt2jax
from weights_tools.cli import main

Arrays = dict[str, np.ndarray]
N_HEADS, D = CONFIG["n_head"], CONFIG["n_embd"]
LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
OWN_HEAD = {"lm_head.weight": np.random.default_rng(1).standard_normal((CONFIG["vocab_size"], D), np.float32)}


def nanogpt(weights: Arrays) -> Arrays:
    """As torch.nn.Linear has it, compiled, with the mask that older versions keep and a head that is the embedding."""
    turned = {name: each.T.copy() if name.endswith(LINEAR) else each for name, each in weights.items()}
    turned["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 7, 7), np.float32))
    return {f"_orig_mod.{name}": each for name, each in turned.items()} | {
        "_orig_mod.lm_head.weight": weights["transformer.wte.weight"]
    }


def mingpt(weights: Arrays) -> Arrays:
    return {name: each.T.copy() if name.endswith(LINEAR) else each for name, each in weights.items()} | OWN_HEAD


def openai(weights: Arrays) -> Arrays:
    short = {"ln.weight": "g", "ln.bias": "b", "c.weight": "w", "c.bias": "b"}
    found = {}
    for name, each in weights.items():
        parts = name.removeprefix("transformer.").split(".")
        if parts[0] in ("wte", "wpe"):
            found[f"model/{parts[0]}"] = each
            continue
        if parts[0] == "h":
            parts[:2] = [f"h{parts[1]}"]
        kind = short[f"{parts[-2].split('_')[0]}.{parts[-1]}"]
        found["/".join(["model", *parts[:-1], kind])] = each[None] if kind == "w" else each
    return found


def lens(weights: Arrays) -> Arrays:
    """TransformerLens' arrays, every head by itself, written out anew."""
    found: Arrays = {"unembed.b_U": np.zeros(CONFIG["vocab_size"], np.float32)}
    plain = {name.removeprefix("transformer."): each for name, each in weights.items()}
    found |= {"embed.W_E": plain["wte.weight"], "pos_embed.W_pos": plain["wpe.weight"]}
    found |= {"unembed.W_U": plain["wte.weight"].T.copy()}
    found |= {"ln_final.w": plain["ln_f.weight"], "ln_final.b": plain["ln_f.bias"]}
    for layer in range(CONFIG["n_layer"]):
        at, to = f"h.{layer}", f"blocks.{layer}"
        for number in (1, 2):
            found[f"{to}.ln{number}.w"] = plain[f"{at}.ln_{number}.weight"]
            found[f"{to}.ln{number}.b"] = plain[f"{at}.ln_{number}.bias"]
        for place, kind in enumerate("QKV"):
            columns = slice(place * D, (place + 1) * D)
            W, b = plain[f"{at}.attn.c_attn.weight"][:, columns], plain[f"{at}.attn.c_attn.bias"][columns]
            found[f"{to}.attn.W_{kind}"] = np.stack(np.split(W, N_HEADS, axis=1))
            found[f"{to}.attn.b_{kind}"] = np.stack(np.split(b, N_HEADS))
        found[f"{to}.attn.W_O"] = np.stack(np.split(plain[f"{at}.attn.c_proj.weight"], N_HEADS))
        found[f"{to}.attn.b_O"] = plain[f"{at}.attn.c_proj.bias"]
        found[f"{to}.attn.mask"] = np.tril(np.ones((7, 7), bool))
        found[f"{to}.attn.IGNORE"] = np.float32(-np.inf)
        for own, theirs in (("c_fc", "in"), ("c_proj", "out")):
            found[f"{to}.mlp.W_{theirs}"] = plain[f"{at}.mlp.{own}.weight"]
            found[f"{to}.mlp.b_{theirs}"] = plain[f"{at}.mlp.{own}.bias"]
    return found


PROGRAMS: dict[str, Callable[[Arrays], Arrays]] = {
    "nanogpt": nanogpt,
    "minGPT": mingpt,
    "openai-npz": openai,
    "transformer-lens": lens,
}


def saved(path: Path, arrays: Arrays, settings: dict | None = None) -> Path:
    """Arrays as a file by the ending of its name, and what is known beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, path)
    (path.parent / "config.json").write_text(json.dumps({"n_head": N_HEADS} if settings is None else settings))
    return path


def arrays_of(folder: Path) -> Arrays:
    return {name: each for path in sorted(folder.glob("*.safetensors")) for name, each in load_file(path).items()}


def same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert found[name].dtype == each.dtype, name
        np.testing.assert_array_equal(found[name].view(np.uint8), each.view(np.uint8), err_msg=name)


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
@pytest.mark.parametrize("dtype", ["F32", "F16"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_comes_back_bit_for_bit(tmp_path, capsys, program, dtype, ending):
    weights = tensors(dtype=dtype)
    source = saved(tmp_path / "in" / f"weights{ending}", PROGRAMS[program](weights))
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", program]) == 0
    head = OWN_HEAD if program == "minGPT" else {}
    same(arrays_of(tmp_path / "out"), weights | head)
    model = gpt2jax.load(tmp_path / "out")
    assert model.config.activation == ("gelu" if program == "nanogpt" else "gelu_new")
    assert (model.config.n_heads, model.config.d_mlp, model.params.W_U is None) == (N_HEADS, 12, not head)
    assert "every weight as it was, bit for bit" in capsys.readouterr().out


def test_a_folder_with_openais_own_settings(tmp_path):
    folder = tmp_path / "in"
    saved(folder / "model.npz", openai(tensors()))
    (folder / "config.json").rename(folder / "hparams.json")
    settings = {"n_vocab": 11, "n_ctx": 7, "n_embd": D, "n_head": N_HEADS, "n_layer": 3}
    (folder / "hparams.json").write_text(json.dumps(settings))
    assert main(["convert", str(folder), str(tmp_path / "out"), "--from", "openai-npz"]) == 0
    same(arrays_of(tmp_path / "out"), tensors())


def test_biases_that_are_not_there_become_zeros(tmp_path, capsys):
    weights = tensors()
    without = {name: each for name, each in nanogpt(weights).items() if not name.endswith(".bias")}
    source = saved(tmp_path / "in" / "ckpt.safetensors", without)
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", "nanogpt"]) == 0
    zeros = {name: np.zeros_like(each) if name.endswith(".bias") else each for name, each in weights.items()}
    same(arrays_of(tmp_path / "out"), zeros)
    assert "written as zeros, which changes nothing" in capsys.readouterr().err


def test_dtype_shards_and_names_there_and_back(tmp_path, capsys):
    weights = tensors(dtype="F16")
    first = write_folder(tmp_path / "first", weights, CONFIG | {"torch_dtype": "float16"})
    (first / "vocab.json").write_text("{}")
    options = ["--dtype", "float32", "--shard", "1kB", "--names", "bare"]
    assert main(["convert", str(first), str(tmp_path / "wide"), *options]) == 0
    shards = sorted((tmp_path / "wide").glob("model-*.safetensors"))
    assert len(shards) > 3
    for shard in shards:
        held = load_file(shard)
        assert sum(each.nbytes for each in held.values()) <= 1000 or len(held) == 1
    wide = arrays_of(tmp_path / "wide")
    same(wide, {name.removeprefix("transformer."): each.astype(np.float32) for name, each in weights.items()})
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["torch_dtype"] == "float32"
    index = json.loads((tmp_path / "wide" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(each.nbytes for each in wide.values())
    back = ["convert", str(tmp_path / "wide"), str(tmp_path / "back"), "--dtype", "float16"]
    assert main(back) == 0
    same(arrays_of(tmp_path / "back"), weights)
    assert (tmp_path / "back" / "vocab.json").read_text() == "{}"
    assert json.loads((tmp_path / "back" / "config.json").read_text())["torch_dtype"] == "float16"
    assert "bit for bit" in capsys.readouterr().out


def test_rounding_is_counted(tmp_path, capsys):
    weights = tensors()
    write_folder(tmp_path / "in", weights)
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--dtype", "bfloat16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rounded = {name: each.astype(NUMPY_DTYPES["BF16"]) for name, each in weights.items()}
    same(arrays_of(tmp_path / "out"), rounded)
    changes = {name: np.abs(rounded[name].astype(np.float64) - each) for name, each in weights.items()}
    assert found["rounded"] == sum(np.count_nonzero(each) for each in changes.values()) > 0
    assert found["largest_change"] == max(each.max() for each in changes.values())
    assert changes[found["largest_change_in"]].max() == found["largest_change"]


def test_wrappers_are_stripped_and_a_model_of_parts_stays_one(tmp_path, capsys):
    weights = tensors(prefix="")
    heads = {name: each for name, each in weights.items() if ".attn." in name or ".ln_1." in name}
    wrapped = {f"module._orig_mod.transformer.{name}": each for name, each in heads.items()}
    write_folder(tmp_path / "in", wrapped)
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--names", "bare"]) == 0
    same(arrays_of(tmp_path / "out"), heads)
    said = capsys.readouterr().err
    assert "which is stripped" in said
    assert "it is not whole: wte.weight" in said


def drop_ln(arrays: Arrays) -> None:
    for name in [each for each in arrays if ".ln1." in each or ".ln2." in each]:
        del arrays[name]


REFUSED = [
    ("nanogpt", lambda it: it.update({"transformer.h.0.attn.rotary": np.ones(2)}), {}, "h.0.attn.rotary has no place"),
    ("nanogpt", lambda it: it.pop("_orig_mod.transformer.h.1.ln_2.bias"), {}, "no h.1.ln_2.bias"),
    ("nanogpt", lambda it: it.update({"lm_head.bias": np.ones(11)}), {}, "lm_head.bias is not zero"),
    ("minGPT", lambda it: it.update({"transformer.wpe.weight": np.ones((7, 9))}), {}, "wpe.weight is [7, 9]"),
    ("transformer-lens", lambda it: it.update({"unembed.b_U": np.ones(11)}), {}, "unembed.b_U is not zero"),
    ("transformer-lens", drop_ln, {}, "no blocks.0.ln1.w"),
    ("transformer-lens", lambda it: None, {"normalization_type": "RMS"}, "normalization_type is 'RMS'"),
    ("openai-npz", lambda it: it["model/wte"].__setitem__((0, 0), np.nan), {}, "wte.weight holds 1 value that is not"),
    ("openai-npz", lambda it: it.pop("model/wte"), {}, "no model/wte among its"),
    ("openai-npz", lambda it: None, {"n_layer": 4}, "n_layer is 4, but the arrays"),
    ("openai-npz", lambda it: None, {"n_head": None}, 'write it as {"n_head": N} into'),
    ("openai-npz", lambda it: it.update({"model/wte": it["model/wte"].astype(object)}), {}, "holds pickled objects"),
]


@pytest.mark.parametrize(("program", "change", "settings", "message"), REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(tmp_path, capsys, program, change, settings, message):
    arrays = {name: np.array(each) for name, each in PROGRAMS[program](tensors()).items()}
    change(arrays)
    said = {name: each for name, each in ({"n_head": N_HEADS} | settings).items() if each is not None}
    source = saved(tmp_path / "in" / "weights.npz", arrays, said)
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", program]) == 2
    refused(capsys, message, tmp_path / "out")


def refused(capsys, message: str, out: Path) -> None:
    said = capsys.readouterr()
    error = said.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert said.out == ""
    assert not list(out.parent.glob(f"*{out.name}*"))


def test_a_layout_that_is_hugging_faces_already(tmp_path, capsys):
    source = saved(tmp_path / "in" / "weights.safetensors", tensors())
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", "nanogpt"]) == 2
    refused(capsys, "as Hugging Face has it already; leave --from out", tmp_path / "out")


def test_what_a_dtype_cannot_hold_is_refused_by_name(tmp_path, capsys):
    weights = tensors()
    weights["transformer.h.1.mlp.c_fc.weight"][3, 2] = 1e6
    write_folder(tmp_path / "in", weights)
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--dtype", "float16"]) == 2
    refused(capsys, "h.1.mlp.c_fc.weight holds 1e+06, which F16 cannot", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"\x80\x04", "ckpt.pt", "never opened"),
        (b"PK\x03\x04", "weights.npz", "not a complete .npz archive"),
        (b"\x10", "weights.safetensors", "not a complete safetensors file"),
        (None, "weights.npz", "no such file or folder"),
    ],
)
def test_files_that_are_none(tmp_path, capsys, content, name, message):
    (tmp_path / "in").mkdir()
    if content is not None:
        (tmp_path / "in" / name).write_bytes(content)
    assert main(["convert", str(tmp_path / "in" / name), str(tmp_path / "out"), "--from", "nanogpt"]) == 2
    refused(capsys, message, tmp_path / "out")


def test_an_archive_that_ends_early(tmp_path, capsys):
    source = saved(tmp_path / "in" / "weights.npz", openai(tensors()))
    content = bytearray(source.read_bytes())
    content[300:340] = bytes(40)
    source.write_bytes(content)
    assert main(["convert", str(source), str(tmp_path / "out"), "--from", "openai-npz"]) == 2
    refused(capsys, "weights.npz: ", tmp_path / "out")


@pytest.mark.parametrize("place", ["beginning", "middle", "locked"])
def test_a_compressed_archive_that_is_damaged_or_locked(tmp_path, capsys, place):
    """Catches what only decompressing says, of an array's beginning and of its numbers, and what a password says."""
    folder = saved(tmp_path / "in" / "weights.npz", openai(tensors())).parent
    np.savez_compressed(folder / "weights.npz", **openai(tensors()))
    content = bytearray((folder / "weights.npz").read_bytes())
    with zipfile.ZipFile(folder / "weights.npz") as archive:
        largest = max(archive.infolist(), key=lambda each: each.compress_size)
    start = (
        largest.header_offset
        + 30
        + len(largest.filename)
        + int.from_bytes(content[largest.header_offset + 28 : largest.header_offset + 30], "little")
    )
    if place == "locked":
        content[largest.header_offset + 6] |= 1
        content[content.rindex(largest.filename.encode()) - 46 + 8] |= 1
    else:
        damaged = start + (0 if place == "beginning" else largest.compress_size // 2)
        content[damaged : damaged + 30] = bytes(30)
    (folder / "weights.npz").write_bytes(content)
    assert main(["convert", str(folder / "weights.npz"), str(tmp_path / "out"), "--from", "openai-npz"]) == 2
    refused(capsys, "make it again", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "large"], "--shard is 'large', expected a size such as 500MB"),
        (["--shard", "0"], "expected a size"),
        (["--dtype", "int8"], "int8"),
        (["--from", "gpt-neox"], "gpt-neox"),
    ],
)
def test_options_that_mean_nothing(tmp_path, capsys, options, message):
    write_folder(tmp_path / "in")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 2
    refused(capsys, message, tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    write_folder(tmp_path / "in")
    (tmp_path / "mine").write_text("mine")
    assert main(["convert", str(tmp_path / "in"), str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"

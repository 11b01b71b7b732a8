"""Folders that hold no model: configurations, tokenizers, names."""

from __future__ import annotations

from pathlib import Path

import gpt2jax
from hostile.refusals import Case, changed
from hostile.weight_cases import CONFIG, TOKENIZER, WEIGHTS, of_model

CONFIGS = [
    of_model("not JSON", f"{CONFIG} line 1: not JSON (Expecting property name", {CONFIG: "{n_layer: 2}"}),
    of_model("nothing", f"{CONFIG} line 1: not JSON (Expecting value)", {CONFIG: ""}),
    of_model("a list", f"{CONFIG}: expected a JSON object, found a list", {CONFIG: "[]"}),
    of_model("null", f"{CONFIG}: expected a JSON object", {CONFIG: "null"}),
    of_model("deep", f"{CONFIG}: not JSON (", {CONFIG: "[" * 100_000}),
    of_model("not UTF-8", f"{CONFIG}: not JSON (", {CONFIG: b'{"n_layer": "\xff"}'}),
    of_model("a number of ten thousand digits", f"{CONFIG}: not JSON (", {CONFIG: '{"n_layer": ' + "9" * 10_000 + "}"}),
    of_model("no config", f"{CONFIG}: no such file", {CONFIG: None}),
    of_model(
        "a folder as config",
        f"{CONFIG}: cannot be read (Is a directory)",
        {CONFIG: None},
        before=lambda: Path(CONFIG).mkdir(),
    ),
    *(
        of_model(
            f"{name} {shown}",
            f"{CONFIG}: {name} is {shown}, expected a whole number from 1 to",
            {CONFIG: changed(**{name: value})},
            "correct it",
        )
        for name, value, shown in [
            ("n_layer", -1, "-1"),
            ("n_layer", 0, "0"),
            ("n_head", 2.0, "2.0"),
            ("n_embd", True, "true"),
            ("n_positions", "16", '"16"'),
            ("n_layer", 10**9, "1000000000"),
            ("vocab_size", 1 << 31, "2147483648"),
            ("n_embd", 10**300, "1" + "0" * 76 + "..."),
            ("n_inner", -4, "-4"),
            ("n_head", float("nan"), "NaN"),
        ]
    ),
    of_model(
        "indivisible", f"{CONFIG}: n_embd 8 is not a multiple of n_head 3", {CONFIG: changed(n_head=3)}, "correct one"
    ),
    of_model(
        "more heads than dimensions", f"{CONFIG}: n_embd 8 is not a multiple of n_head 16", {CONFIG: changed(n_head=16)}
    ),
    of_model("layers that are not there", f"{WEIGHTS}: missing in layers 2 to 999 ", {CONFIG: changed(n_layer=1000)}),
    of_model(
        "a vocabulary of two thousand million",
        f"{WEIGHTS}: mis-shaped wte.weight",
        {CONFIG: changed(vocab_size=(1 << 31) - 1)},
    ),
    of_model("a width of ten million", f"{WEIGHTS}: mis-shaped ", {CONFIG: changed(n_embd=10_000_000)}),
    of_model(
        "an infinite epsilon",
        f"{CONFIG}: layer_norm_epsilon is Infinity, expected a number",
        {CONFIG: changed(layer_norm_epsilon=float("inf"))},
    ),
    of_model(
        "a negative epsilon",
        f"{CONFIG}: layer_norm_epsilon is -1e-05, expected a number",
        {CONFIG: changed(layer_norm_epsilon=-1e-5)},
    ),
    of_model(
        "an epsilon no float holds",
        f"{CONFIG}: layer_norm_epsilon is 1000",
        {CONFIG: changed(layer_norm_epsilon=10**400)},
    ),
    of_model(
        "a switch that is a word",
        f'{CONFIG}: scale_attn_weights is "yes", expected true or false',
        {CONFIG: changed(scale_attn_weights="yes")},
    ),
    of_model(
        "another model", f'{CONFIG}: model_type is "llama", expected "gpt2"', {CONFIG: changed(model_type="llama")}
    ),
    of_model(
        "architectures of objects",
        f"{CONFIG}: architectures is [{{}}], expected a list of GPT2LMHeadModel",
        {CONFIG: changed(architectures=[{}])},
    ),
    of_model(
        "architectures of lists", f"{CONFIG}: architectures is ", {CONFIG: changed(architectures=[["GPT2Model"]])}
    ),
    of_model(
        "quantised",
        f"{CONFIG}: quantization_config is ",
        {CONFIG: changed(quantization_config={"bits": 4})},
        "dequantise",
    ),
    of_model(
        "an activation that is an object",
        f"{CONFIG}: activation_function is {{}}, expected a name",
        {CONFIG: changed(activation_function={})},
    ),
    of_model(
        "a message of many lines",
        f'{CONFIG}: model_type is "a\\n\\u001b[2Jb", expected',
        {CONFIG: changed(model_type="a\n\x1b[2Jb")},
    ),
]
TOKENIZERS = [
    of_model("a tokenizer that is no JSON", f"{TOKENIZER} line 1: not JSON", {TOKENIZER: "{"}),
    of_model(
        "a tokenizer of nothing", f"{TOKENIZER}: no tokenizer that can be read (", {TOKENIZER: "{}"}, "fetch it again"
    ),
    of_model("a tokenizer that is a list", f"{TOKENIZER}: expected a JSON object, found a list", {TOKENIZER: "[]"}),
    of_model(
        "a tokenizer whose model is a number",
        f"{TOKENIZER}: no tokenizer that can be read (",
        {TOKENIZER: changed(model=1)},
    ),
    of_model(
        "a tokenizer of a kind unknown",
        f"{TOKENIZER}: no tokenizer that can be read (",
        {TOKENIZER: changed(model={"type": "Magic"})},
    ),
    of_model(
        "merges of tokens unknown",
        f"{TOKENIZER}: no tokenizer that can be read (",
        {TOKENIZER: lambda held: held.replace(b'"Ma"', b'"Mb"', 1)},
    ),
    of_model(
        "added tokens that are no list",
        f"{TOKENIZER}: added_tokens is no list",
        {TOKENIZER: changed(added_tokens={"a": 1})},
    ),
    of_model(
        "an added token without an id",
        f"{TOKENIZER}: added_tokens: None is no token id",
        {TOKENIZER: changed(added_tokens=[{"content": "<u>"}])},
    ),
    of_model(
        "an added token far away",
        f"{TOKENIZER}: ",
        {TOKENIZER: changed(added_tokens=[{"content": "<u>", "id": 999999999}])},
    ),
    of_model(
        "settings that are no JSON",
        "model/tokenizer_config.json line 1: not JSON",
        {"model/tokenizer_config.json": "{"},
    ),
    of_model(
        "a class that is a number",
        "model/tokenizer_config.json: tokenizer_class is 1",
        {"model/tokenizer_config.json": {"tokenizer_class": 1}},
    ),
    of_model(
        "merges alone",
        "model: has no tokenizer.json and lacks vocab.json",
        {TOKENIZER: None, "model/merges.txt": "a b\n"},
    ),
    of_model(
        "merges that are no pairs",
        "model/merges.txt: no tokenizer that can be read (",
        {TOKENIZER: None, "model/merges.txt": "a b c\n", "model/vocab.json": {"a": 0}},
    ),
    of_model(
        "merges that are not UTF-8",
        "model/merges.txt: no tokenizer that can be read (",
        {TOKENIZER: None, "model/merges.txt": b"\xff \xfe\n", "model/vocab.json": {"a": 0}},
    ),
    of_model(
        "a vocabulary of words for ids",
        "model/merges.txt: no tokenizer that can be read (",
        {TOKENIZER: None, "model/merges.txt": "a b\n", "model/vocab.json": {"a": "zero", "b": 1, "ab": 2}},
    ),
    of_model(
        "a vocabulary of negative ids",
        "model/merges.txt: no tokenizer that can be read (",
        {TOKENIZER: None, "model/merges.txt": "a b\n", "model/vocab.json": {"a": -1, "b": 1, "ab": 2}},
    ),
    of_model(
        "a special token that is a number",
        "model/special_tokens_map.json: bos_token: found 7, expected an object",
        {"model/special_tokens_map.json": {"bos_token": 7}},
    ),
    of_model(
        "a tokenizer in a link to nowhere",
        f"{TOKENIZER}: no such file; fetch it again",
        {TOKENIZER: None},
        before=lambda: Path(TOKENIZER).symlink_to("gone"),
    ),
]
SOURCES = [
    Case(
        "no such folder",
        ("decompose", "--model", "./gone"),
        "./gone: no such folder",
        python=lambda: gpt2jax.load("./gone"),
    ),
    Case(
        "a file as model",
        ("decompose", "--model", WEIGHTS),
        f"{WEIGHTS}: is a file; give the folder",
        python=lambda: gpt2jax.load(WEIGHTS),
    ),
    Case("an empty name", ("decompose", "--model", ""), "--model is empty; give a value, or leave it out"),
    Case("an empty name after =", ("decompose", "--model="), "--model is empty; give a value, or leave it out"),
    Case(
        "a null character",
        ("decompose", "--model", "a\0b"),
        "a\\x00b: no such folder, and no hub id",
        python=lambda: gpt2jax.load("a\0b"),
    ),
    Case(
        "a name of control characters",
        ("decompose", "--model", "\x1b[31mred\n"),
        "\\x1b[31mred : no such folder",
        python=lambda: gpt2jax.load("\x1b[31mred\n"),
    ),
    Case("a name too long", ("decompose", "--model", "x/" * 3000), "x/x/"),
    Case("a home of nobody", ("decompose", "--model", "~nobody-here/x"), "~nobody-here/x: "),
    Case(
        "a revision of a folder",
        ("decompose", "--model", "model", "--revision", "v1"),
        "model: is a folder, which has no revision 'v1'",
    ),
    Case("a name of half a character", ("decompose", "--model", "\udc80"), "\\udc80: no such folder"),
]
CASES = [*CONFIGS, *TOKENIZERS, *SOURCES]

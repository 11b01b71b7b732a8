"""Settings: the contract's defaults, every value checked, files read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from svdtrace.config import TraceConfig
from svdtrace.errors import SettingError

DEFAULTS = {
    "threshold": 0.5,
    "tau": 1.0,
    "coverage": 0.7,
    "method": "exact",
    "select": "cover",
    "keys": "summed",
    "writers": "heads",
    "roots": "all",
    "targets": "answer",
    "sides": "both",
    "skip_first": True,
    "score_min": 0.0,
    "processing": "folded",
    "batch_size": "auto",
    "dtype": "float32",
}


def test_the_defaults_are_the_contracts():
    assert TraceConfig().to_dict() == DEFAULTS
    assert list(TraceConfig().to_dict()) == [field.name for field in dataclasses.fields(TraceConfig)]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("threshold", 0, "threshold is 0; it must be above 0 and at most 1"),
        ("threshold", 1.5, "threshold is 1.5; it must be above 0 and at most 1"),
        ("threshold", "0.5", 'threshold is "0.5"; give a number'),
        ("threshold", True, "threshold is True; give a number"),
        ("threshold", "dynamical", 'threshold is "dynamical"; give a number, or dynamic'),
        ("tau", float("nan"), "tau is nan; give a number"),
        ("tau", "dynamic", 'tau is "dynamic"; give a number'),
        ("select", "first", 'select is "first"; choose one of cover, until'),
        ("select", "until", 'select is "until", which method relative alone has; add it'),
        ("keys", "own", 'keys is "own", which method relative alone has; add it'),
        ("tau", -0.1, "tau is -0.1; it must be above 0 and at most 1"),
        ("coverage", 1.01, "coverage is 1.01; it must be above 0 and at most 1"),
        ("score_min", -1, "score_min is -1; it must be 0 or more"),
        ("score_min", float("inf"), "score_min is inf; give a number"),
        ("method", "papers", 'method is "papers"; choose one of paper, all, exact'),
        ("writers", None, "writers is None; choose one of heads, all"),
        ("sides", "source", 'sides is "source"; choose one of both, dest, src'),
        ("processing", "fold", 'processing is "fold"; choose one of folded, raw'),
        ("dtype", "float16", 'dtype is "float16"; choose one of float32, bfloat16, float64'),
        ("skip_first", 1, "skip_first is 1; give true or false"),
        ("roots", " ", 'roots is " "; give all, logit, probability, or firings'),
        ("targets", "7", 'targets are "7", which roots probability alone has; add it'),
        ("targets", "", 'targets is ""; give tokens, or answer'),
        ("batch_size", 0, "batch_size is 0; give a whole number of prompts, 1 or more, or auto"),
        ("batch_size", True, "batch_size is True; give a whole number"),
        ("batch_size", "8", 'batch_size is "8"; give a whole number'),
    ],
)
def test_a_value_outside_its_range_is_refused(name: str, value: Any, said: str):
    with pytest.raises(SettingError) as caught:
        TraceConfig(**{name: value})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 1), ("tau", 1), ("score_min", 3), ("coverage", np.float32(0.5))]
)
def test_numbers_become_floats(name: str, value: Any):
    held = getattr(TraceConfig(**{name: value}), name)
    assert type(held) is float
    assert held == value


def test_relative_has_all_writers_where_nothing_is_said():
    """Catches a default that sticks when the method changes, and one that a word given does not overrule."""
    relative = TraceConfig(method="relative", threshold="dynamic", select="until", keys="all")
    assert relative.writers == relative.to_dict()["writers"] == "all"
    assert type(relative.to_dict()["writers"]) is str
    assert dataclasses.replace(TraceConfig(), method="relative").writers == "all"
    assert dataclasses.replace(TraceConfig(method="relative"), method="exact").writers == "heads"
    assert dataclasses.replace(TraceConfig(writers="heads"), method="relative").writers == "heads"
    assert TraceConfig.from_dict(relative.to_dict()) == relative


def test_a_file_gives_some_settings_and_the_others_are_the_defaults(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text('{"threshold": 0.25, "roots": "9.6@end:IO"}')
    assert TraceConfig.from_file(path).to_dict() == {**DEFAULTS, "threshold": 0.25, "roots": "9.6@end:IO"}


def test_a_manifest_gives_its_config(tmp_path: Path):
    path = tmp_path / "manifest.json"
    config = TraceConfig(method="paper", batch_size=32)
    path.write_text(json.dumps({"version": "1", "command": "trace", "config": config.to_dict()}))
    assert TraceConfig.from_file(path) == config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; give a JSON file"),
        ("{", "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[1]", "expected one JSON object of settings"),
        ('{"thresold": 1}', 'unknown setting "thresold"; did you mean "threshold"?'),
        ('{"x": 1}', 'unknown setting "x"; there are threshold, tau, '),
        ('{"tau": 2}', "tau is 2; it must be above 0 and at most 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, said: str):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingError) as caught:
        TraceConfig.from_file(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_folder_is_no_file_of_settings(tmp_path: Path):
    with pytest.raises(SettingError, match=r"cannot be read \(Is a directory\)"):
        TraceConfig.from_file(tmp_path)

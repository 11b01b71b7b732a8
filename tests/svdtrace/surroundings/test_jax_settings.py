"""A variable that keeps JAX from starting is named, and no number follows from one."""

from __future__ import annotations

import sys

import jax
import pytest

from svdtrace.errors import SettingError
from svdtrace.surroundings.jax_settings import blamed, settle
from svdtrace.surroundings.telling import one_line


@pytest.fixture
def unusable(monkeypatch: pytest.MonkeyPatch):
    """JAX finds no device."""

    def refuse(*_: object) -> None:
        raise RuntimeError("Unable to initialize backend 'cuda': none (set JAX_PLATFORMS='' to choose)")

    monkeypatch.setattr(jax.numpy, "zeros", refuse)
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE"])
@pytest.mark.usefixtures("unusable")
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "cuda")
    reason = "Unable to initialize backend 'cuda': none"
    said = f"{name} is cuda, but JAX finds no such device here ({reason}); unset it or set cpu"
    assert one_line(AssertionError()) == said


@pytest.mark.usefixtures("unusable")
def test_devices_that_do_not_start_of_themselves():
    assert "set JAX_PLATFORMS=cpu" in one_line(RuntimeError("no CUDA driver"))


def test_a_device_that_is_no_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_DEFAULT_DEVICE", "banana")
    said = one_line(ValueError("jax.default_device must be passed a Device object, got: 'banana'"))
    assert said.startswith("JAX_DEFAULT_DEVICE is banana, but JAX finds no such device here (jax.default_device must")


def test_where_jax_computes_the_defect_is_ours():
    assert blamed(AssertionError()) is None
    assert "this is a defect of svdtrace" in one_line(ValueError("JAX_ENABLE_X64"))


def test_a_value_at_which_jax_is_not_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
    monkeypatch.delitem(sys.modules, "jax")
    said = one_line(ValueError("invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'"))
    assert said.startswith("JAX_ENABLE_X64 is maybe, which JAX does not take (invalid truth value")


def test_flags_at_which_xla_would_end_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense")
    with pytest.raises(SettingError, match=r"XLA_FLAGS is --xla_nonsense, which XLA does not take \(.*xla_nonsense"):
        settle()


def test_variables_for_finding_faults_are_set_aside(monkeypatch: pytest.MonkeyPatch):
    assert jax.config.values["jax_numpy_dtype_promotion"] == "strict", "set by these tests, not by a variable"
    settle()
    assert jax.config.values["jax_numpy_dtype_promotion"] == "strict"
    monkeypatch.setenv("JAX_DEBUG_NANS", "1")
    jax.config.update("jax_debug_nans", True)
    try:
        settle()
        assert not jax.config.values["jax_debug_nans"]
    finally:
        jax.config.update("jax_debug_nans", False)

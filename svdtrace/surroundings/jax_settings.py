"""Settings of JAX that a user's variables hold, and what to say where JAX cannot start under them."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Any

from svdtrace.errors import SettingError

_PLACES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE")
_FLAGS = "XLA_FLAGS"

_OWN: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_check_tracer_leaks": False,
    "jax_disable_jit": False,
}
"""What a command decides itself: its numbers follow from its options, and these are for finding faults in the user's
own code."""


def settle() -> None:
    """Give a command's process the settings that its numbers rest on, whatever the user's variables say.

    Raises:
        SettingError: flags of XLA at which it would end the process.
    """
    check_flags()
    import jax

    for name, value in _OWN.items():
        if name.upper() in os.environ and name in jax.config.values:
            jax.config.update(name, value)


def blamed(error: BaseException) -> str | None:
    """One line on the variable that keeps JAX from starting; `None` where it starts.

    Args:
        error: what nobody foresaw.
    """
    text = " ".join(str(error).split())
    lowered = text.lower().replace("jax.", "jax_")
    named = [name for name in os.environ if name.startswith("JAX_") and name.lower() in lowered]
    if named and "jax" not in sys.modules:
        # It reads all its variables when it is imported, and then is not.
        return f"{_given(named)}, which JAX does not take ({text}); unset it, or give one of its values"
    reason = f" ({text})" if set(named) & set(_PLACES) else _refusal()
    if reason is None:
        return None
    given = [name for name in _PLACES if os.environ.get(name)]
    if not given:
        return f"JAX cannot start its devices here{reason}; set JAX_PLATFORMS=cpu to compute on the processor"
    return f"{_given(given)}, but JAX finds no such device here{reason}; unset it or set cpu"


def _given(names: list[str]) -> str:
    return " and ".join(f"{name} is {os.environ[name]}" for name in names)


def _refusal() -> str | None:
    """Why nothing at all can be computed, in brackets, if JAX says so; `None` where it can, or was never asked to."""
    jax = sys.modules.get("jax")
    if jax is None:
        return None
    try:
        jax.numpy.zeros(1).block_until_ready()
    except Exception as error:  # JAX's own errors differ from back end to back end
        said = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        return f" ({said})" if said else ""
    return None


def check_flags() -> None:
    """Try flags of XLA in a process of their own, since it ends one at flags that it does not know.

    Raises:
        SettingError: there are some.
    """
    flags = os.environ.get(_FLAGS)
    refused = _refused(flags) if flags else None
    if refused is not None:
        raise SettingError(
            f"{_given([_FLAGS])}, which XLA does not take ({refused}); unset it, or leave out what it names"
        )


@cache
def _refused(flags: str) -> str | None:
    """What XLA says of flags that it does not take."""
    tried = "from jaxlib import xla_client; xla_client.CompileOptions()"
    ended = subprocess.run(
        [sys.executable, "-c", tried], env={**os.environ, _FLAGS: flags}, capture_output=True, text=True, check=False
    )
    said = [line.partition("] ")[2].rstrip(".") for line in ended.stderr.splitlines() if _FLAGS in line]
    return said[0] if ended.returncode and said else None

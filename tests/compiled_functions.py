"""Every compiled function of the project, found in its source, and the programs that its own runs make of them."""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export

PACKAGES = ("gpt2jax", "svdtrace", "weights_tools")
# A program's key: what it is a program of, and the structure, axes and types of its arguments.
Programs = dict[tuple[str, str], Callable[[str], str]]
_jit = jax.jit  # `recording` puts another one in its place


def modules() -> Iterator[str]:
    """The names of all modules of the project."""
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            yield found.name


def compiled_functions() -> set[str]:
    """`module.name` of every function that is compiled, or of the one within which another one is."""
    return {
        f"{module}.{name}" for module in modules() for name in _compiled_in(Path(_source(module)).read_text("utf-8"))
    }


def _source(module: str) -> str:
    file = import_module(module).__file__
    assert file is not None, module
    return file


def _compiled_in(source: str) -> set[str]:
    found = set()
    for statement in ast.parse(source).body:
        if not any(_names_jit(node) for node in ast.walk(statement)):
            continue
        if isinstance(statement, ast.Assign):
            found |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        else:
            found.add(getattr(statement, "name", ast.unparse(statement)))
    return found


def _names_jit(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name | ast.alias) and "jit" in (
        getattr(node, "attr", None),
        getattr(node, "id", None),
        getattr(node, "name", "").split(".")[-1],
    )


class Recorder:
    """A compiled function that remembers how it is called."""

    def __init__(self, name: str, function: Any, programs: Programs) -> None:
        self.name, self.function, self.programs = name, function, programs

    def __call__(self, /, *args: Any, **options: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, options))
        # Within another compiled function it is a part of that one's program; float64 runs on the CPU alone.
        if not jax.config.jax_enable_x64 and not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            kinds = [f"{leaf.dtype}{leaf.ndim}" if hasattr(leaf, "dtype") else repr(leaf) for leaf in leaves]
            self.programs.setdefault((self.name, f"{tree} {kinds}"), program(self.function, *args, **options))
        return self.function(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)


def program(function: Any, /, *args: Any, **options: Any) -> Callable[[str], str]:
    """What a compiled function becomes on a platform, as text, for such arguments."""
    leaves, tree = jax.tree.flatten((args, options))
    is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]

    # Arrays alone as arguments: what lowering puts in their place would not pass the checks of our own pytrees.
    def flat(*arrays: jax.Array) -> Any:
        given = iter(arrays)
        its_args, its_options = tree.unflatten(
            next(given) if each else leaf for each, leaf in zip(is_array, leaves, strict=True)
        )
        return function(*its_args, **its_options)

    arrays = [leaf for each, leaf in zip(is_array, leaves, strict=True) if each]
    return lambda platform: str(export.export(_jit(flat), platforms=[platform])(*arrays).mlir_module())


@contextmanager
def recording() -> Iterator[Programs]:
    """The programs of all that is run within it."""
    programs: Programs = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in compiled_functions():
            module, _, attribute = name.rpartition(".")
            function = getattr(sys.modules[module], attribute)
            if not hasattr(function, "lower"):  # it compiles another one within
                continue
            recorder = Recorder(name, function, programs)
            for holder in [sys.modules[each] for each in modules()]:
                for held, value in list(vars(holder).items()):
                    if value is function:
                        patch.setattr(holder, held, recorder)

        def recorded(function: Any = None, **options: Any) -> Any:
            if function is None:
                return lambda each: recorded(each, **options)
            own = function.func if isinstance(function, partial) else function
            name = f"{own.__module__}.{own.__qualname__.split('.<locals>')[0]}"
            compiled = _jit(function, **options)
            return Recorder(name, compiled, programs) if _is_written_here(name) else compiled

        patch.setattr(jax, "jit", recorded)
        yield programs


def is_ours(name: str) -> bool:
    """Whether a program belongs to the project, and not to its tests or to a library."""
    return name.split(".")[0] in PACKAGES


def _is_written_here(name: str) -> bool:
    return is_ours(name) or name.startswith("test_")

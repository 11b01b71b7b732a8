"""What all tests share: signatures are checked, types are not mixed, files are found, compiling costs little."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parent.parent
NUMERICS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "svdtrace").rglob("*.py")
    if "from jaxtyping" in path.read_text("utf-8")
]

# Before the packages are imported: the annotations of all that computes are then checked by beartype at each call.
install_import_hook(["gpt2jax", *NUMERICS], "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")

from svdtrace.cli import terminal  # noqa: E402
from svdtrace.errors import SettingError  # noqa: E402
from svdtrace.surroundings.jax_settings import check_flags  # noqa: E402

UNOPTIMISED, COMPILED = "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR"
# The older of XLA's two ways to machine code, in one piece a program: a third of the time.
QUICK_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
QUICKLY = pytest.StashKey[bool | None]()
"""How programs are compiled now; `None` where all tests compile in one way."""
KEPT_GIB = 1.1
# What a command prints does not hang on how busy the machine is.
terminal.LINE_FIRST += 3600.0


def pytest_configure(config: pytest.Config) -> None:
    """Let the quick tests compile quickly, and each program once: compiling was most of their time.

    The full tests compile as users do, those marked `whole` or `unoptimised` aside, and the quick ones where
    `JAX_DISABLE_MOST_OPTIMIZATIONS=0` asks for it.
    """
    if config.option.markexpr in ("not full", "whole", "not full or whole"):
        unoptimised = os.environ.setdefault(UNOPTIMISED, "1") == "1"
        jax.config.update("jax_disable_most_optimizations", unoptimised)
        if unoptimised and "XLA_FLAGS" not in os.environ:
            os.environ["XLA_FLAGS"] = QUICK_FLAGS
            try:
                check_flags()
            except SettingError:  # of a release that has other flags
                del os.environ["XLA_FLAGS"]
    config.stash[QUICKLY] = None if UNOPTIMISED in os.environ else False
    if COMPILED not in os.environ:
        # Workers and the commands that tests start inherit it.
        folder = tempfile.mkdtemp(prefix="svdtrace-tests-")
        os.environ |= {COMPILED: folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Among the full tests, let those compile quickly that say nothing about what optimising does."""
    quickly = _compiles_quickly(item)
    if item.config.stash[QUICKLY] not in (None, quickly):
        # Else a program compiled in one way would serve in the other.
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quickly)
        os.environ[UNOPTIMISED] = str(int(quickly))
        item.config.stash[QUICKLY] = quickly
    return (yield)


def _compiles_quickly(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("whole", "unoptimised"))


@pytest.fixture(autouse=True, scope="module")
def _few_programs_at_once():
    """Compiled programs go where a process holds much, since they are most of what it holds."""
    yield
    if _held_gib() > KEPT_GIB:
        jax.clear_caches()
        # Else what is freed stays with the process, and programs would go after every module from then on.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What runs from end to end is left out where the full tests are.

    There, each process begins with what may take longest, and comes to what compiles quickly at its end.
    """
    for item in items:
        if item.get_closest_marker("whole"):
            item.add_marker("full")
    if config.stash[QUICKLY] is not None:
        items.sort(key=lambda item: (_compiles_quickly(item), -_longest(item)))


def _longest(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays: with its own settings it took a fifteenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def _held_gib() -> float:
    """What this process holds now, where the system says; its peak elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**30
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


@pytest.fixture(autouse=True, scope="session")
def _caches_of_their_own(tmp_path_factory: pytest.TempPathFactory):
    """Caches on disk go to a folder of this run, so that no run answers from an earlier one's."""
    os.environ["SVDTRACE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the project: GPT-2's tokenizer and heads, the paper's numbers."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, the paper's files beside the project")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and another folder to stand in, which must stay empty."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(here)
    return folder

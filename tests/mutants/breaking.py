"""Mutants run, each in a copy of the source: what `svdtrace.testing.verify` says, and what its test says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from mutants.mutant import ROOT, Mutant
from mutants.verifying import ALL

PACKAGES = ("gpt2jax", "svdtrace", "weights_tools")
COPIED = (*PACKAGES, "tests", "docs", "pyproject.toml", "README.md")
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
LONGEST = 1200
"""Seconds that a process may take. What takes longer says nothing: the machine may have had no time for it."""


@dataclass(frozen=True)
class Found:
    """What noticed a mutant: laws of `verify`, laws of raw weights, where a program stopped; the test that failed."""

    laws: tuple[str, ...]
    raw: tuple[str, ...]
    stopped: str
    test: str

    @property
    def by_verify(self) -> bool:
        """Whether `svdtrace verify` alone would have told."""
        return bool(self.laws or self.stopped)


class Workshop:
    """A copy of the source that mutants are made in, one at a time, and a cache of compiled programs that they share:
    what a mutant does not change is not compiled again.
    """

    def __init__(self, folder: Path, number: int = 0) -> None:
        self._programs = folder / "programs"
        self.copy, self._results = (folder / f"{name}-{number}" for name in ("copy", "results"))
        shutil.rmtree(self.copy, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules")
        for name in COPIED:
            source, target = ROOT / name, self.copy / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                self.copy.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def found(self, mutant: Mutant, laws: str = ALL, test: str = "") -> Found:
        """Make a mutant, see who notices, and put the source back.

        Args:
            laws: the only one that is tried, or `NONE`; by default all are.
            test: the only one that runs; by default those that the mutant names.
        """
        path = self.copy / mutant.file
        whole = path.read_text("utf-8")
        try:
            _written(path, mutant.applied(whole))
            return self._tried("raw" if mutant.raw else "folded", laws, test or mutant.test)
        finally:
            _written(path, whole)

    def sound(self) -> Found:
        """The same of the source as it is, which nothing may notice."""
        return self._tried("raw", ALL)

    def _tried(self, *arguments: str) -> Found:
        done = self._run(["-m", "mutants.verifying", *arguments])
        if done.returncode < 0:
            raise RuntimeError(f"{' '.join(arguments)}: ended from outside, by signal {-done.returncode}")
        first, _, rest = done.stdout.partition("\n")
        if not first.startswith("{"):
            return Found((), (), done.stderr.strip().rpartition("\n")[2][:80], "")
        said = json.loads(first)
        failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", rest, re.MULTILINE)
        if done.returncode and not failed:
            raise RuntimeError(f"{' '.join(arguments)}: the tests did not run\n{rest[-1000:]}{done.stderr[-1000:]}")
        test = failed[1] if failed else ""
        return Found(tuple(said["laws"]), tuple(said["raw"]), said["stopped"], test)

    def _run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(self._results, ignore_errors=True)
        own = {
            "PYTHONPATH": f"{self.copy}{os.pathsep}{self.copy / 'tests'}",
            "JAX_COMPILATION_CACHE_DIR": str(self._programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "XLA_FLAGS": FLAGS,
            # A mutant must not answer with what another has left.
            "SVDTRACE_CACHE": str(self._results),
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.copy,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )


def measured_for(mutant: Mutant) -> str:
    """What a measurement hangs on: the mutant, the packages, its file of tests, and what verifies."""
    said = {name: value for name, value in asdict(mutant).items() if name != "unseen"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    files += [ROOT / mutant.test.partition("::")[0], ROOT / "tests" / "mutants" / "verifying.py"]
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _written(path: Path, text: str) -> None:
    """Written, and what Python has compiled of the file gone: its date alone would not tell."""
    path.write_text(text, "utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()

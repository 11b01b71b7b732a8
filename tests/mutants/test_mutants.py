"""Mutants of the source: each still applies, each is in the table of docs/mutants.md, and each is noticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants.breaking import Workshop
from mutants.listed import MUTANTS
from mutants.mutant import ROOT, Mutant
from mutants.page import PAGE, table
from mutants.verifying import NONE
from svdtrace.testing import LAWS

LEAST = 40
"""How many there are."""
SEEN = 0.75
"""Of them, that a law of `verify` alone tells, at least."""


def named(mutant: Mutant) -> str:
    return mutant.what


def first_law(said: str) -> str:
    """Of a row's laws the first, or that at which the program stops."""
    return said.rpartition(" at ")[2] if said.startswith("stops: ") else said.split("`")[1]


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, str]]:
    return table(PAGE.read_text("utf-8"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_every_mutant_is_a_change_of_a_program(mutant: Mutant) -> None:
    """Catches a mutant that the source has grown away from, and one that could not even be imported."""
    ast.parse(mutant.applied((ROOT / mutant.file).read_text("utf-8")))
    file, _, test = mutant.test.partition("::")
    assert f"def {test}(" in (ROOT / file).read_text("utf-8") if test else (ROOT / file).is_file()


def test_a_change_that_fits_nowhere_or_twice_is_told() -> None:
    mutant = Mutant("adds", "sum.py", before="+", after="-", test="test_sum.py")
    assert mutant.applied("a + b") == "a - b"
    for source in ("a * b", "a + b + c"):
        with pytest.raises(ValueError, match="adds"):
            mutant.applied(source)


def test_every_mutant_has_its_row(rows: dict[str, tuple[str, str]]) -> None:
    assert list(rows) == [mutant.what for mutant in MUTANTS]
    assert len(rows) >= LEAST
    names = {law.name for law in LAWS}
    for mutant in MUTANTS:
        said, test = rows[mutant.what]
        file = test.strip("`").partition("::")[0]
        assert (ROOT / "tests" / file).is_file()
        assert f"tests/{file}" == mutant.test.partition("::")[0]
        if mutant.unseen:
            assert said.startswith(f"none: {mutant.unseen}")
        else:
            assert first_law(said) in names


def test_three_quarters_fail_a_law(rows: dict[str, tuple[str, str]]) -> None:
    seen = [what for what, (laws, _) in rows.items() if not laws.startswith("none")]
    assert len(seen) >= SEEN * len(rows)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(Path(tmp_path_factory.mktemp("mutants")))
    found = made.sound()
    assert not found.by_verify
    assert not found.raw
    return made


@pytest.mark.full
@pytest.mark.timeout(1300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_every_mutant_is_noticed(mutant: Mutant, shop: Workshop, rows: dict[str, tuple[str, str]]) -> None:
    """By the first law and the test that its row names, which alone are run; where no law can tell, by the test."""
    laws, test = rows[mutant.what]
    found = shop.found(mutant, NONE if mutant.unseen else first_law(laws), f"tests/{test.strip('`')}")
    assert found.test
    assert mutant.unseen or first_law(laws) in found.laws or found.stopped.endswith(f" at {first_law(laws)}")

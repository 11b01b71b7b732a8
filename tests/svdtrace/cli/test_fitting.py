"""Tables that fit the width there is, and options typed again."""

from __future__ import annotations

import io
import shlex

import pytest
from rich.console import Console

from svdtrace.cli.options import ConfigChoice, ModelChoice, PromptChoice, given
from svdtrace.cli.terminal import table

COLUMNS = ("edges", "where", "prompts", "Δ logit difference", "controls' Δ", "exceeds")
ROW = ("1.5:2.6@end:IO/src", "global", 37, "-1.20 [-1.46, -0.99]", "+0.03 [-0.11, +0.18]", "yes")


def printed(width: int) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width).print(table("Effects", COLUMNS, [ROW, ROW], left=("edges", "where")))
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize("width", [120, 80, 44])
def test_no_cell_breaks_and_no_line_is_wider_than_there_is_room(width):
    lines = printed(width)
    assert all(len(line) <= width for line in lines)
    for cell in map(str, ROW):
        assert sum(line.count(cell) for line in lines) == 2


def test_where_columns_do_not_fit_every_number_has_its_name_beside_it():
    assert printed(80)[2:4] == [
        "1.5:2.6@end:IO/src   global",
        "  prompts 37   Δ logit difference -1.20 [-1.46, -0.99]",
    ]
    assert printed(120)[2].split() == " ".join(COLUMNS).split()


def test_names_of_columns_fold_before_cells_do():
    text = io.StringIO()
    Console(file=text, width=30).print(table("T", ("run", "a long name of a column"), [("clean", 1.5)], left=("run",)))
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert ["run", "column"] in lines
    assert ["clean", "1.5"] in lines


def test_what_was_given_is_typed_again_so_that_a_shell_reads_it_as_it_was():
    model, prompts = ModelChoice(model="my models/gpt"), PromptChoice(text=("a 'b'", "c"), bos=True, seed=3)
    said = given(model, prompts, ConfigChoice())
    assert shlex.split(said) == ["--model", "my models/gpt", "--text", "a 'b'", "--text", "c", "--bos", "--seed", "3"]
    assert given(ModelChoice(), PromptChoice()) == ""

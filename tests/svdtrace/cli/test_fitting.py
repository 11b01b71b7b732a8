"""Tables that fit the width there is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

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

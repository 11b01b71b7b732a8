"""What the demo finds in a trace whose circuit is known, and what it tells of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up_trace import with_roles

from svdtrace.cli import main
from svdtrace.cli.findings import (
    NameMover,
    Source,
    check_roles,
    name_movers,
    name_moving_heads,
    right_answers,
    roots_of,
)
from svdtrace.errors import PromptError
from svdtrace.prompts import Prompt
from svdtrace.tracing import tables

ROLES = {"IO": 2, "S1": 3, "end": 6}


@dataclass(frozen=True)
class Tables:
    """What findings read of a trace."""

    prompts: pa.Table
    firings: pa.Table
    edges: pa.Table


def tables_of(firings: list[dict[str, Any]], edges: list[dict[str, Any]], n_prompts: int = 8) -> Tables:
    """Tables of prompts whose roles all stand at the same places; the last prompt has no roles."""
    prompts = [
        {
            "prompt": place,
            "roles": list(ROLES.items()) if place < n_prompts - 1 else [],
            "logit_difference": place - 2.5,
        }
        for place in range(n_prompts)
    ]
    asked = pa.Table.from_pylist(prompts, schema=tables.PROMPTS)
    return Tables(asked, with_roles(asked, firings, tables.FIRINGS), with_roles(asked, edges, tables.EDGES))


def firing(prompt: int, head: tuple[int, int], dest: int = 6, src: int = 2, size: int = 3) -> dict[str, Any]:
    return {"prompt": prompt, "layer": head[0], "head": head[1], "dest": dest, "src": src, "size": size}


def edge(prompt: int, writer: str, side: str, weight: float, share: float | None, src: int = 2) -> dict[str, Any]:
    token = 6 if side == "dest" else src
    row = {**firing(prompt, (4, 1), src=src), "writer": writer, "side": side, "token": token, "weight": weight}
    del row["size"]
    return {**row, "share": share}


def test_heads_that_fire_from_end_to_io_on_a_quarter_of_the_prompts():
    firings = [
        *(firing(prompt, (3, 0)) for prompt in range(2)),
        *(firing(prompt, (4, 1)) for prompt in range(5)),
        firing(0, (2, 2)),
        # Elsewhere, or where the roles are not known, none counts.
        *(firing(prompt, (1, 1), src=3) for prompt in range(7)),
        *(firing(prompt, (1, 0), dest=5) for prompt in range(7)),
        firing(7, (2, 2)),
    ]
    heads = name_moving_heads(tables_of(firings, []))
    assert heads == [("4.1", 5), ("3.0", 2)]
    assert roots_of(heads) == "4.1@end:IO,3.0@end:IO"


def test_the_top_heads_where_none_fires_so_often():
    firings = [firing(0, head) for head in ((4, 1), (3, 0), (2, 2), (1, 1))]
    assert len(name_moving_heads(tables_of(firings, []))) == 3
    assert name_moving_heads(tables_of([], [])) == []


def test_what_a_head_reads_is_told_by_writer_token_and_side():
    firings = [firing(0, (4, 1), size=2), firing(1, (4, 1), size=5), firing(0, (3, 0), size=9)]
    edges = [
        edge(0, "2.0", "dest", 3.0, 0.5),
        edge(1, "2.0", "dest", 1.0, 0.25),
        edge(0, "1.1", "src", 1.0, 0.125),
        edge(0, "0.0", "src", 0.5, None),
        edge(0, "9.9", "src", 9.0, 0.9, src=3),
    ]
    assert name_movers(tables_of(firings, edges), [("4.1", 2)]) == [
        NameMover(
            head="4.1",
            prompts=2,
            mean_slice=3.5,
            sources=(
                # Shares are of the sums: (3 + 1) of (3 / 0.5 + 1 / 0.25).
                Source("2.0", "end", "dest", 2, 0.4),
                Source("1.1", "IO", "src", 1, 0.125),
                Source("0.0", "IO", "src", 1, 0.0),
            ),
        )
    ]


def test_right_answers_are_those_above_zero():
    assert right_answers(tables_of([], [])) == (5, 8)


def test_prompts_without_the_two_roles_are_refused():
    check_roles([Prompt(None, (1,), ("a",), {"IO": 0, "end": 0}), Prompt(None, (1,), ("a",))])
    with pytest.raises(PromptError, match="no prompt has both the roles end and IO"):
        check_roles([Prompt(None, (1,), ("a",), {"IO": 0})])


@pytest.mark.whole
@pytest.mark.parametrize("score_min", [0, 1e6])
def test_the_demo_writes_everything_and_says_what_to_open(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, prompt_file: Path, score_min: float
):
    (tmp_path / "config.json").write_text(json.dumps({"threshold": 0.01, "score_min": score_min}))
    given = ["demo", "--model", str(model_folder), "--prompts", str(prompt_file), "--config", f"{tmp_path}/config.json"]
    out = tmp_path / "out"
    assert main([*given, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert {"circuit.svg", "circuit.png", "report.html", "edges.parquet"} <= {path.name for path in out.iterdir()}
    for words in (f"{out}/report.html", f"{out}/circuit.svg", f"svdtrace tokens --model {model_folder} --text"):
        assert words in told
    # What was given is given on.
    assert f"svdtrace trace {' '.join(given[1:])} --roots" in told
    assert f"--out {out}-paper\n" in told
    page = re.sub(r"</?span[^>]*>", "", (out / "report.html").read_text(encoding="utf-8"))
    suggested = f"svdtrace circuit {out}<" in page
    assert suggested == (score_min == 0)
    assert main([*given, "--out", str(out), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["asked"] == 3
    found = [head["head"] for head in content["heads"]]
    assert content["roots"] == ",".join(f"{head}@end:IO" for head in found)
    assert bool(found) == (score_min == 0)
    for head in found:
        assert f"{head} (on " in told
    assert ("No head above the first layer fires from end to IO" in told) == (score_min > 0)

"""`svdtrace intervene` writes what the contract names, chooses edges of a trace, and refuses what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undescribed_columns import undescribed

import svdtrace
from svdtrace.cli import main
from svdtrace.errors import EdgeError
from svdtrace.interventions.choice import named_edges
from svdtrace.interventions.summary import summarise
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.statistics import benjamini_hochberg

COLUMNS = {
    "prompt": "int32",
    "edges": "string",
    "where": "string",
    "direction": "string",
    "control": "string",
    "seed": "int32",
    **{f"{name}_{when}": "float" for name in ("logit_difference", "score", "pattern") for when in ("before", "after")},
    "norm_ratio": "float",
    "cosine": "float",
    "edited": "bool",
}
FILES = ["effects.png", "effects.svg", "interventions.parquet", "manifest.json", "measures.parquet", "summary.parquet"]


@pytest.mark.whole
def test_the_strongest_edges_of_a_trace_beside_controls(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, traced: Path
):
    out = tmp_path / "edited"
    given = ["intervene", "--model", str(model_folder), "--from", str(traced), "--strongest", "2", "--where", "local"]
    assert main([*given, "--control", "norm", "--seeds", "2", "--seed", "4", "--out", str(out), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    table = pq.read_table(out / "interventions.parquet")
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert undescribed(out) == []
    # 3 prompts, 2 edges, 1 place, 2 directions, the signal and 2 controls
    assert table.num_rows == content["rows"] == 3 * 2 * 2 * 3
    assert set(table["seed"].to_pylist()) == {None, 4, 5}
    trace = svdtrace.read(traced)
    strongest = named_edges(trace.prompts, trace.edges).names[:2]
    assert tuple(dict.fromkeys(table["edges"].to_pylist())) == strongest
    rows = [row for row in table.to_pylist() if row["edited"]]
    assert rows
    assert any(row["logit_difference_after"] != row["logit_difference_before"] for row in rows)
    before = dict(zip(trace.prompts["prompt"].to_pylist(), trace.prompts["logit_difference"].to_pylist(), strict=True))
    for row in table.to_pylist():
        size = max(1.0, abs(before[row["prompt"]]))
        assert row["logit_difference_before"] == pytest.approx(before[row["prompt"]], abs=ACTIVATION_ERROR * size)
        if not row["edited"]:
            assert row["logit_difference_after"] == row["logit_difference_before"]
            assert (row["norm_ratio"], row["cosine"]) == (1.0, 1.0)
    summary = pq.read_table(out / "summary.parquet").to_pylist()
    assert [row["edges"] for row in content["effects"]] == [row["edges"] for row in summary]
    assert main([*given, "--direction", "ablate", "--together", "--quiet", "--out", str(out)]) == 0
    table = pq.read_table(out / "interventions.parquet")
    assert set(table["edges"].to_pylist()) == {",".join(strongest)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no edges are given"),
        (["--strongest", "3"], "give its folder with --from"),
        (["--edges", "0.1:1.1@end:IO/up"], "is not of the form"),
        (["--edges", "const:1.1@end:IO/dest"], "is not edited"),
        (["--edges", "0.1:1.1@end:nobody/dest"], 'no prompt has a role or position "nobody"'),
        (["--edges", "0.1:1.1@end:IO/dest", "--seeds", "0"], "give 1 or more"),
    ],
)
def test_what_cannot_be_edited_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model_folder: Path,
    prompt_file: Path,
    arguments: list[str],
    message: str,
):
    out = tmp_path / "edited"
    given = ["intervene", "--model", str(model_folder), "--prompts", str(prompt_file), "--out", str(out)]
    assert main([*given, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_raw_weights_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, prompt_file: Path
):
    file = tmp_path / "raw.json"
    file.write_text('{"processing": "raw"}')
    given = ["--model", str(model_folder), "--prompts", str(prompt_file), "--config", str(file)]
    assert main(["intervene", *given, "--edges", "0.1:1.1@end:IO/dest", "--out", str(tmp_path / "out")]) == 2
    assert "defined on folded weights" in capsys.readouterr().err


def test_edges_of_a_trace_by_node():
    prompts = pa.table(
        {
            "prompt": [0, 1],
            "roles": pa.array([[("IO", 2), ("end", 5)], [("end", 4), ("7", 3)]], pa.map_("string", "int32")),
        }
    )
    rows = [
        (0, "0.1", 2, 3, 5, 2, "dest", 1.0),
        (1, "0.1", 2, 3, 4, 3, "dest", 5.0),
        (0, "mlp.0", 2, 3, 5, 2, "src", 3.0),
        (0, "attn_bias.0", 2, 3, 5, 2, "src", 9.0),
        (1, "0.1", 1, 0, 4, 4, "src", 0.5),
    ]
    names = ("prompt", "writer", "layer", "head", "dest", "src", "side", "weight")
    known = named_edges(prompts, pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))))
    # A role that reads like a position is not used.
    first, second, third, fourth = (
        "0.1:2.3@end:3/dest",
        "mlp.0:2.3@end:IO/src",
        "0.1:2.3@end:IO/dest",
        "0.1:1.0@end:end/src",
    )
    assert known.names == (first, second, third, fourth)
    assert known.into("2.3") == [first, second, third]
    assert known.into("2.3@IO") == [second]
    assert known.out_of("0.1@end") == [first, third, fourth]
    assert known.strongest(2) == [first, second]
    with pytest.raises(EdgeError, match=r"no edge into 9\.9"):
        known.into("9.9")


def edits(effects: list[tuple[int, str, str, int | None, float | None]]) -> pa.Table:
    """Rows of prompt, edges, control, seed and effect on a logit difference of 5; None where nothing is edited."""
    rows = [
        {
            "prompt": prompt,
            "edges": edges,
            "where": "global",
            "direction": "ablate",
            "control": control,
            "seed": seed,
            "logit_difference_before": 5.0,
            "logit_difference_after": 5.0 + (effect or 0.0),
            **dict.fromkeys(("score_before", "score_after", "pattern_before", "pattern_after"), 0.5),
            "norm_ratio": 1.0,
            "cosine": 1.0,
            "edited": effect is not None,
        }
        for prompt, edges, control, seed, effect in effects
    ]
    schema = pa.schema([(name, kind if kind != "bool" else pa.bool_()) for name, kind in COLUMNS.items()])
    return pa.Table.from_pylist(rows, schema=schema)


def test_a_signal_exceeds_its_controls_where_it_moves_the_output_more():
    """Three prompts, two seeds: |effects| 2 against 1, then the reverse; an unedited prompt counts for nothing.

    Of "c" all controls are of too few vectors, of "b" that of one prompt, in which the signal would win.
    """
    rows, kl, short = [], [], []
    for prompt in range(4):
        for edges, own, other in (("a", -2.0, 1.0), ("b", 9.0 if prompt == 2 else 1.0, -2.0), ("c", -2.0, 0.0)):
            for control, seed, effect in (("none", None, own), ("norm", 0, other), ("norm", 1, -other)):
                edited = prompt < 3
                rows.append((prompt, edges, control, seed, effect + 0.01 * prompt if edited else None))
                kl.append(0.25 if edited else 0.0)
                short.append(control != "none" and (edges == "c" or (edges == "b" and prompt == 2 and seed == 1)))
    measures = pa.table({"kl": kl, "short_control": short})
    found = summarise(edits(rows), measures).to_pylist()
    assert [(row["edges"], row["control"], row["exceeds"]) for row in found] == [
        ("a", "none", True),
        ("a", "norm", None),
        ("b", "none", False),
        ("b", "norm", None),
        ("c", "none", None),
        ("c", "norm", None),
    ]
    assert [row["prompts"] for row in found] == [3] * 6
    assert [row["seeds"] for row in found] == [0, 2] * 3
    means = [row["logit_difference"] for row in found[:4]]
    np.testing.assert_allclose(means, [-1.99, 0.01, (1 + 1 + 9) / 3 + 0.01, 0.01], atol=1e-6)
    assert found[0]["logit_difference_low"] <= -1.99 <= found[0]["logit_difference_high"]
    assert [row["kl"] for row in found] == [0.25] * 6
    assert found[0]["excess"] == pytest.approx(0.99, abs=1e-6)
    assert [row["clean"] for row in found] == [5.0] * 6
    # T = mean / (s / sqrt(3)) of 1, 0.99, 0.98 with two degrees of freedom: P(T > t) = 1/2 - t / 2 sqrt(2 + t^2).
    t = 0.99 / (0.01 / 3**0.5)
    assert found[0]["p_value"] == pytest.approx(0.5 - t / (2 * (2 + t * t) ** 0.5), rel=1e-3)
    assert found[0]["q_value"] == pytest.approx(2 * found[0]["p_value"])


def test_what_exceeds_is_corrected_over_the_edges_and_must_matter():
    """Forty edges that do what their controls do, one that does more, and one that does more but next to nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(8):
        for edge in range(42):
            own, other = abs(1 + 0.1 * rng.normal(size=2))
            own += {40: 1.0, 41: -0.97}.get(edge, 0.0)
            other *= 0.001 if edge == 41 else 1.0
            own = 0.04 + 0.001 * own if edge == 41 else own
            rows += [(prompt, f"{edge:02}", "none", None, own), (prompt, f"{edge:02}", "norm", 0, other)]
    measures = pa.table({"kl": np.zeros(len(rows)), "short_control": np.zeros(len(rows), bool)})
    found = [row for row in summarise(edits(rows), measures).to_pylist() if row["control"] == "none"]
    p = [row["p_value"] for row in found]
    np.testing.assert_allclose([row["q_value"] for row in found], benjamini_hochberg(np.asarray(p)))
    assert [row["edges"] for row in found if row["exceeds"]] == ["40"]
    # Catches no correction: some of the forty are below 0.05 by themselves. Catches sureness alone: so is the last.
    assert sum(each <= 0.05 for each in p[:40]) > 0
    assert found[41]["q_value"] <= 0.05
    assert found[41]["logit_difference"] < 0.01 * found[41]["clean"]


@pytest.mark.whole
def test_prompts_of_a_trace_keep_their_numbers(
    model_folder: Path, prompt_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches rows that are another prompt's than the trace's of that number, where its numbers do not run through."""
    path = tmp_path / "p.jsonl"
    path.write_text("\n" + prompt_file.read_text().replace("\n", "\nno prompt\n", 1))
    model = ["--model", str(model_folder), "--quiet"]
    assert main(["sweep", *model, "--prompts", str(path), "--threshold", "0.3", "--out", str(tmp_path / "swept")]) == 0
    given = ["--from", str(tmp_path / "swept"), "--strongest", "1", "--direction", "ablate", "--where", "local"]
    assert main(["intervene", *model, *given, "--out", str(tmp_path / "edited")]) == 0
    trace, table = svdtrace.read(tmp_path / "swept"), pq.read_table(tmp_path / "edited" / "interventions.parquet")
    before = dict(zip(trace.prompts["prompt"].to_pylist(), trace.prompts["logit_difference"].to_pylist(), strict=True))
    assert list(before) == table["prompt"].to_pylist() == [1, 3, 4]
    size = max(1.0, *map(abs, before.values()))
    assert table["logit_difference_before"].to_pylist() == pytest.approx(
        list(before.values()), abs=ACTIVATION_ERROR * size
    )
    said = json.loads((tmp_path / "edited" / "manifest.json").read_text())["prompts"]
    assert (said["rejected"], said["sha256"]) == (2, trace.manifest["prompts"]["sha256"])

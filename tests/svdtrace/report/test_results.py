"""Chance, stability and other commands' results on the page: read, checked, counted, drawn."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_results import SETS, made_up_results, saved, with_evidence
from made_up_trace import InParts, made_up_trace

from svdtrace.cli import main
from svdtrace.errors import TraceFolderError
from svdtrace.folders.writing import TABLES
from svdtrace.output.writing import MANIFEST
from svdtrace.report import read_results, render
from svdtrace.report.data import page_data
from svdtrace.results.columns import column

FINGERPRINT = "9f2c4e1a77b0d3c58a61"


@cache
def whole() -> str:
    return render(with_evidence(made_up_trace()), made_up_results())


def text_of(page, selector: str) -> str:
    return page.run(f"document.querySelector({json.dumps(selector)}).textContent")


def test_evidence_is_counted_by_connection_as_a_loop_counts_it():
    trace = with_evidence(made_up_trace())
    data = page_data(trace).json
    linked, roles = data["connections"], data["roles"]
    labels = {
        (prompt["prompt"], position): role
        for prompt in trace.prompts.to_pylist()
        for role, position in dict(prompt["roles"]).items()
    }
    by_key: dict[tuple, list] = {}
    for edge in trace.edges.to_pylist():
        role = labels.get((edge["prompt"], edge["token"]), "other")
        by_key.setdefault((edge["writer"], edge["layer"], edge["head"], role, edge["side"]), []).append(edge)
    assert len(by_key) == len(linked["side"])
    for place, side in enumerate(linked["side"]):
        writer = data["writers"][linked["writer"][place]]
        key = (writer, linked["layer"][place], linked["head"][place], roles[linked["role"][place]])
        edges = by_key[*key, ("dest", "src")[side]]
        mean = np.mean([edge["stability"] for edge in edges])
        shares = [edge["share"] for edge in edges if edge["share"] is not None]
        # Three significant digits are kept.
        assert linked["share"][place] == pytest.approx(np.median(shares), rel=5e-3)
        assert abs(linked["stability"][place] - mean) <= 5e-4
        assert linked["q_value"][place] == edges[0]["q_value"]
        assert linked["p_prompts"][place] == edges[0]["p_prompts"]


def test_the_evidence_of_parts_is_that_of_the_whole():
    trace = with_evidence(made_up_trace())
    assert page_data(InParts(trace, 5)).json == page_data(trace).json


def test_a_trace_without_evidence_has_no_columns_of_it_and_names_the_commands_that_make_it():
    # Every word of a command is kept whole by a tag of its own.
    html = re.sub(r"</?span[^>]*>", "", render(made_up_trace()))
    assert "stability" not in page_data(made_up_trace()).json["connections"]
    for command in ("trace … --fdr 0.05", "trace … --stability", "intervene --from trace", "circuit trace"):
        assert f"svdtrace {command}" in html
    assert 'id="more"' not in whole()


def test_results_are_read_back_and_told_apart(tmp_path):
    folders = [saved(result, tmp_path / result.command) for result in made_up_results()]
    found = read_results(folders, FINGERPRINT)
    assert [result.command for result in found] == ["intervene", "characterise", "circuit"]
    assert page_data(made_up_trace(), found).json == page_data(made_up_trace(), made_up_results()).json
    with pytest.raises(TraceFolderError, match="of another model"):
        read_results(folders, "0" * 20)
    with pytest.raises(TraceFolderError, match="second result of svdtrace circuit"):
        read_results([*folders, folders[2]], FINGERPRINT)
    with pytest.raises(TraceFolderError, match="holds no result"):
        read_results([tmp_path], FINGERPRINT)
    (folders[0] / "summary.parquet").write_bytes(b"no table")
    with pytest.raises(TraceFolderError, match=r"summary\.parquet: cannot be read .* run svdtrace intervene anew"):
        read_results(folders[:1])
    (folders[1] / MANIFEST).write_text('{"version": "1", "command": "trace"}')
    with pytest.raises(TraceFolderError, match='its command is "trace"'):
        read_results(folders[1:2])


def test_the_command_puts_results_beside_the_trace(tmp_path, capsys):
    trace, folder = made_up_trace(), tmp_path / "trace"
    folder.mkdir()
    for name in TABLES:
        pq.write_table(getattr(trace, name), folder / f"{name}.parquet")
    (folder / MANIFEST).write_text(json.dumps(trace.manifest))
    beside = saved(made_up_results()[0], tmp_path / "intervene")
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--with", str(beside), "--out", str(out), "--quiet"]) == 0
    page = out.read_text()
    assert 'id="interventions"' in page
    assert 'id="faithfulness"' not in page
    assert main(["report", str(folder), "--with", str(folder), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {folder / MANIFEST}: its command is")
    assert out.read_text() == page


@pytest.mark.whole
@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_all_sections_open_without_a_word_from_the_console(opened, width, dark):
    injected = made_up_results(injected=True)
    page = opened(render(with_evidence(made_up_trace(injected=True)), injected), width=width, dark=dark)
    assert page.problems == []
    assert page.run("document.documentElement.classList.contains('ready')")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelectorAll('img, main b:not(.slice b)').length") == 0
    assert "<img src=x" in text_of(page, "#interventions-table")
    assert "<img src=x" in text_of(page, "#characterisation-tokens")
    assert (
        page.run("[...document.querySelectorAll('section svg.chart')].filter((c) => c.children.length < 3).length") == 0
    )


@pytest.mark.whole
def test_opacity_is_stability_and_q_filters_the_circuit(opened):
    page = opened(whole())
    data = page.run("JSON.parse(document.getElementById('data').textContent).connections")
    fitting = sum(q is not None and q <= 0.05 for q in data["q_value"])
    assert 0 < fitting < len(data["q_value"])
    page = opened(whole(), "#q=0.05&n=500&rows=500")
    assert text_of(page, "#shown") == f"{fitting} connections of {fitting} that pass the filters"
    # The library keeps its instance on its container.
    drawn = page.run(
        "document.getElementById('stage')._cyreg.cy.edges('.dest, .src')"
        ".map((each) => [each.id(), Number(each.style('opacity'))])"
    )
    ids = page.run(
        "[...document.querySelectorAll('#edges-body tr')].map((row) => [row.cells[0].firstChild.dataset.key, "
        "row.cells[9].textContent])"
    )
    opacity = dict(drawn)
    checked = [(opacity[name], int(shown.rstrip("%")) / 100) for name, shown in ids if name in opacity]
    assert checked
    # The table shows whole percents.
    assert all(abs(seen - (0.12 + 0.85 * stability)) < 0.005 for seen, stability in checked)


@pytest.mark.whole
def test_interventions_follow_the_address_and_a_single_edge_leads_into_the_circuit(opened):
    page = opened(whole(), "#where=local&way=boost&measure=pattern")
    assert [page.run(f"document.getElementById('{name}').value") for name in ("where", "way", "measure")] == [
        "local",
        "boost",
        "pattern",
    ]
    shown = page.run(
        "[...document.querySelectorAll('#interventions-table tbody tr')].map((row) => row.cells[0].textContent)"
    )
    rows = made_up_results()[0].tables["summary"].to_pylist()
    mine = [row for row in rows if (row["where"], row["direction"], row["control"]) == ("local", "boost", "none")]
    assert shown == [row["edges"] for row in sorted(mine, key=lambda row: -abs(row["pattern"]))]
    assert page.run("document.querySelectorAll('#interventions-chart .mark.first').length") == len(SETS) + 1
    page.run("document.querySelector('#interventions-table button').click()")
    page.settle()
    assert "→" in text_of(page, "#details h3")


@pytest.mark.whole
def test_curves_and_tokens_are_those_of_the_tables(opened):
    page = opened(whole(), "#task=1.2")
    assert text_of(page, "#characterisation-tokens .ranked code") == "␣Mary"
    assert page.run("document.getElementById('task').value") == "1.2"
    # Three orders and their legend, seven numbers of edges each, and seven more marks for each of two seeds.
    for kind in ("faithfulness", "completeness"):
        assert page.run(f"document.querySelectorAll('#faithfulness-{kind} .chart .mark').length") == 3 * 7 + 2 * 7
    assert "traced of 300 candidate edges" in text_of(page, "#faithfulness-words")
    assert page.run("document.querySelectorAll('#agreement-traced .chart .mark').length") == 3
    assert "+0.41" in text_of(page, "#agreement-traced")
    page = opened(whole(), "#by=log_probability")
    assert "−0.17" in text_of(page, "#agreement-traced")
    assert "log-probability is −0.2 nats" in text_of(page, "#faithfulness-words")
    assert "nats lost" in text_of(page, "#faithfulness-heads")


@pytest.mark.whole
def test_a_measure_without_shares_says_why_and_is_not_the_default(opened):
    why = "the divisor, 0.02, is 1.3 of its standard errors, not above 5"
    *others, made = made_up_results()
    table = made.tables["faithfulness"]
    nothing = pa.nulls(table.num_rows, pa.float64())
    tables = {**made.tables, "faithfulness": table.set_column(table.column_names.index("value"), "value", nothing)}
    blind = {"divisor": made.manifest["divisor"] | {"why": why}, "default_measure": "log_probability"}
    results = [*others, replace(made, manifest=made.manifest | blind, tables=tables)]
    html = render(made_up_trace(), results)
    page = opened(html)
    assert page.run("document.getElementById('by').value") == "log_probability"
    assert page.run("document.querySelectorAll('#faithfulness-faithfulness .chart').length") == 1
    assert "of its standard errors" not in text_of(page, "#faithfulness")
    page = opened(html, "#by=logit_difference")
    assert page.problems == []
    assert page.run("document.getElementById('by').value") == "logit_difference"
    for name in ("words", "faithfulness", "completeness", "areas"):
        assert why in text_of(page, f"#faithfulness-{name}")
    assert page.run("document.querySelectorAll('#faithfulness-faithfulness .chart').length") == 0


@pytest.mark.whole
def test_more_than_chance_says_what_it_asks_for(opened):
    results = made_up_results()
    table = results[0].tables["summary"]
    schema = table.schema.set(
        table.column_names.index("exceeds"), column("exceeds", pa.bool_(), "surer than chance, and it matters")
    )
    told = replace(results[0], tables={"summary": table.cast(schema)})
    page = opened(render(made_up_trace(), [told, *results[1:]]))
    titles = page.run("[...document.querySelectorAll('#interventions-table th')].map((each) => each.title)")
    assert "surer than chance, and it matters" in titles


ROUNDING = {
    "dtype": "bfloat16",
    "prompts": 10,
    "firings": {"kept": 1201, "lost": 3, "gained": 5},
    "edges": {"kept": 3990, "lost": 10, "gained": 12},
    "firings_per_head": {"2.1": {"kept": 300, "lost": 0, "gained": 1}, "4.3": {"kept": 99, "lost": 3, "gained": 4}},
}


@pytest.mark.whole
def test_rounded_weights_have_a_section_of_their_own(opened):
    trace = made_up_trace()
    html = render(replace(trace, manifest={**trace.manifest, "rounding": ROUNDING}))
    for width in (1440, 390):
        page = opened(html, "#rounding", width=width)
        assert page.problems == []
        assert page.run("document.documentElement.scrollWidth") <= width
    assert "rounded to bfloat16" in text_of(page, "#rounding .explain")
    assert "the first 10 prompts" in text_of(page, "#rounding .explain")
    cells = page.run(
        "[...document.querySelectorAll('#rounding tbody tr')].map((row) => "
        "[...row.cells].map((cell) => cell.textContent))"
    )
    assert cells == [["Firings", "1,204", "1,201", "3", "5"], ["Edges", "4,000", "3,990", "10", "12"]]
    heads = page.run("[...document.querySelectorAll('#rounding li')].map((each) => each.textContent)")
    assert heads == ["4.3 3 of 102 lost, 4 gained", "2.1 0 of 300 lost, 1 gained"]
    assert "rounding" not in text_of(page, "#settings")
    assert 'id="rounding"' not in render(trace)


@pytest.mark.whole
def test_each_null_says_how_much_it_explains(opened):
    page = opened(whole())
    said = page.run("[...document.querySelectorAll('#chance-nulls li')].map((each) => each.lastChild.textContent)")
    assert said == [
        "31 survive, 60 not told from it",
        "80 survive, 11 not told from it",
        "31 survive, 60 not told from it",
    ]
    assert "25 survive a false-discovery rate of 5%" in text_of(page, "#chance-words")
    assert "may be there all the same" not in text_of(page, "#chance-words")
    assert "p = 0.005" in text_of(page, "#chance-bases")
    assert "83.0%" in text_of(page, "#chance-reruns")


@pytest.mark.whole
def test_where_none_survives_it_is_said_what_it_would_take(opened):
    """Catches a page that takes want of draws for want of truth."""
    trace = with_evidence(made_up_trace())
    chance = trace.manifest["chance"] | {"surviving": 0, "smallest_q": 0.4, "beat_all": 3, "nulls_needed": 1234}
    page = opened(render(replace(trace, manifest={**trace.manifest, "chance": chance})))
    said = text_of(page, "#chance-words")
    assert "With so few draws none could survive: the smallest q-value is 0.4." in said
    assert "3 beat every draw; it takes 1,234 draws of each null" in said
    assert "may be there all the same" in said


@pytest.mark.whole
def test_without_answers_nothing_is_offered_or_shown_that_needs_them(opened):
    """Catches a command that must fail, and a picture of a logit difference that there is none of."""
    trace, results = with_evidence(made_up_trace()), made_up_results()
    prompts = trace.prompts
    field = prompts.schema.field("logit_difference")
    none = pa.nulls(prompts.num_rows, field.type)
    bare = replace(trace, prompts=prompts.set_column(prompts.schema.names.index(field.name), field, none))
    assert "Is this circuit enough?" in render(trace)
    assert "Is this circuit enough?" not in render(bare)
    interventions = next(each for each in results if each.command == "intervene")
    table = interventions.tables["summary"]
    field = table.schema.field("logit_difference")
    empty = table.set_column(table.schema.names.index(field.name), field, pa.nulls(table.num_rows, field.type))
    page = opened(render(bare, [replace(interventions, tables={**interventions.tables, "summary": empty})]))
    assert page.run("document.getElementById('measure').value") == "pattern"
    assert page.run("document.querySelectorAll('#interventions-chart .mark').length") > 0

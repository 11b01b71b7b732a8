"""A card tells of one firing what the trace's tables hold, whatever its tokens say."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pyarrow as pa
import pytest
from made_up_results import with_evidence
from made_up_trace import INJECTIONS, MadeUpTrace, closely, made_up_trace
from rich.cells import cell_len

from svdtrace.errors import EdgeError, PromptError
from svdtrace.explaining import told, words
from svdtrace.explaining.asking import why
from svdtrace.explaining.finding import OnePrompt
from svdtrace.explaining.notebook import as_html
from svdtrace.explaining.terminal import as_text
from svdtrace.interventions.tables import INTERVENTIONS
from svdtrace.tracing.tables import PROMPTS


@cache
def looked_at(relative: bool = False) -> MadeUpTrace:
    return closely(made_up_trace(), relative)


def an_edge(trace: MadeUpTrace, side: str = "src") -> tuple[str, dict]:
    """The largest edge into 4.3 at end on a side in prompt 0, and its row."""
    rows = [row for row in trace.edges.to_pylist() if (row["prompt"], row["layer"], row["head"]) == (0, 4, 3)]
    row = max((row for row in rows if row["side"] == side and row["dest"] == 14), key=lambda row: row["weight"])
    return f"{row['writer']}:4.3@end:IO/{side}", row


def interventions(name: str) -> pa.Table:
    """An edge taken away in its reader alone, and with two controls of equal norm."""
    row = {
        "prompt": 0,
        "edges": name,
        "where": "local",
        "direction": "ablate",
        "control": "none",
        "seed": None,
        "logit_difference_before": 2.0,
        "logit_difference_after": 1.5,
        "score_before": 5.0,
        "score_after": 4.0,
        "pattern_before": 0.9,
        "pattern_after": 0.4,
        "norm_ratio": 1.0,
        "cosine": 1.0,
        "edited": True,
    }
    controls = [row | {"control": "norm", "seed": seed, "pattern_after": 0.9 - 0.1 * seed} for seed in (0, 1)]
    other = row | {"prompt": 1, "pattern_after": 0.0}
    return pa.Table.from_pylist([other, row, *controls], schema=INTERVENTIONS)


def test_an_edge_is_told_with_its_numbers():
    """Catches numbers of another firing, side or writer, and a pattern that is not the row's."""
    name, row = an_edge(looked_at())
    card = why(looked_at(), edge=name)
    chosen, its = card.chosen, card.firing
    assert chosen is not None
    assert (chosen.weight, chosen.share, chosen.token) == (row["weight"], row["share"], row["token"])
    assert sum(chosen.by_vector or ()) == pytest.approx(row["weight"], rel=1e-6)
    assert its.keys is not None
    assert its.keys[its.src].pattern == pytest.approx(its.pattern, rel=1e-5)
    text = str(card)
    assert f"Head 4.3 at “ to” (end) gives {words.percent(its.pattern)} of its attention to" in text
    assert f"▸   {row['writer']}" in text
    assert words.number(row["weight"]) in text
    assert f"▸   4 “{its.strings[4]}” (IO)" in text
    at = [line for line in text.splitlines() if line.startswith("▸")]
    assert len(at) == 2


def test_what_was_not_asked_is_said_and_how_to_ask():
    name, _ = an_edge(looked_at())
    said = dict(told.left_of_it(why(looked_at(), edge=name)))
    assert all(each.startswith("not asked; svdtrace ") for each in said.values())
    assert "--nulls" in said["Chance"]
    assert "--stability" in said["Other settings"]
    assert f"--edges {name}" in said["Taken away"]


def test_chance_settings_and_ablation_are_told_where_they_were_asked():
    """Catches the evidence of another edge, another prompt's ablation, and controls that are not averaged."""
    trace = with_evidence(made_up_trace())
    name, row = an_edge(looked_at())
    card = why(trace, edge=name, interventions=interventions(name))
    said, chosen = dict(told.left_of_it(card)), card.chosen
    assert chosen is not None
    mine = next(
        each
        for each in trace.edges.to_pylist()
        if all(each[key] == row[key] for key in ("prompt", "layer", "head", "dest", "src", "side", "writer"))
    )
    assert chosen.evidence == {key: mine[key] for key in chosen.evidence}
    assert f"q {mine['q_value']:.2g}" in said["Chance"]
    many = len(trace.manifest["stability"]["reruns"])
    assert f"in {round(mine['stability'] * many)} of {many} reruns" in said["Other settings"]
    assert "attention 90% → 40%" in said["Taken away"]
    assert "logit difference 2 → 1.5" in said["Taken away"]
    assert "random directions of the same size 85%" in said["Taken away"]
    another = why(trace, firing="4.3@end:IO", interventions=interventions("0.0:4.3@end:IO/src,0.1:4.3@end:IO/src"))
    assert "none of these edges was tried" in dict(told.left_of_it(another))["Taken away"]


def test_relative_attention_tells_of_the_token_and_its_rivals():
    """Of what a writer put into the scores of n keys, c at one alone: here M (c - c/n), the rest is the rivals'."""
    trace = looked_at(relative=True)
    name, row = an_edge(trace, "dest")
    card = why(trace, edge=name)
    chosen = card.chosen
    assert chosen is not None
    n_keys, put = card.firing.dest + 1, 10 * row["weight"]
    assert chosen.here == pytest.approx(0.1 * (put - put / n_keys), rel=1e-5)
    assert chosen.rivals == pytest.approx(row["weight"] - chosen.here, rel=1e-5)
    text = str(card)
    for each in ("        M", "at rivals", "beyond an even share"):
        assert each in text
    assert f"itself this is worth {words.percent(chosen.here)}" in re.sub(r"\s+", " ", text)


def test_every_card_fits_eighty_columns_whatever_the_tokens():
    """Catches a cell that breaks its line, and a token that ends one or moves the cursor."""
    trace = closely(made_up_trace(injected=True), relative=True)
    for card in OnePrompt.of(trace, trace.manifest, 0).cards():
        text = as_text(card)
        assert max(map(cell_len, text.splitlines())) <= 80
        assert all(letter.isprintable() for letter in text.replace("\n", ""))


def test_markup_among_tokens_stays_text_in_a_notebook():
    trace = closely(made_up_trace(injected=True))
    html = [as_html(card) for card in OnePrompt.of(trace, trace.manifest, 0).cards()]
    assert all("<img" not in each and "<script" not in each and "<b>&amp;amp" not in each for each in html)
    assert any("&lt;/script&gt;" in each for each in html)
    assert all(len(each) < 100_000 for each in html)
    assert words.visible(INJECTIONS[2]) == "⏎⏎⇥"
    assert words.visible("\x1b[2J") == "\\x1b[2J"


def test_prompts_beyond_the_first_say_what_they_lack():
    card = why(made_up_trace(), firing="4.3@end")
    assert card.firing.keys is None
    assert "of its first prompts alone" in re.sub(r"\s+", " ", str(card))
    assert card.side("dest")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"prompt": 99}, PromptError, "prompt 99 is not in the trace; it has 12, from 0 to 11"),
        ({"firing": "4.3"}, EdgeError, "write e.g. 2.6@end:IO, or 2.6@end"),
        ({"firing": "4.3@nowhere"}, EdgeError, 'has no "nowhere"; its roles are IO'),
        ({"firing": "4.3@end:0"}, EdgeError, "has no such firing; 4.3 fires at 4.3@end:IO"),
        ({"edge": "4.3@end:IO"}, EdgeError, "write e.g. 8.6:9.9@end:IO/dest"),
        (
            {"edge": "mlp.0:4.3@end:IO/src"},
            EdgeError,
            "mlp.0 is no edge of 4.3 on that side in prompt 0; those that are",
        ),
    ],
)
def test_names_that_mean_nothing_say_what_there_is(asked, error, said):
    with pytest.raises(error, match=re.escape(said)):
        why(looked_at(), **asked)


def test_a_trace_that_no_root_leads_into_says_so():
    """Catches advice about the threshold where roots are what leaves nothing."""
    trace = looked_at()
    rooted = {**trace.manifest, "config": {**trace.manifest["config"], "roots": "logit"}}
    for manifest, said in ((trace.manifest, "no head fires"), (rooted, "nothing leads to roots logit")):
        nothing = MadeUpTrace(trace.prompts, trace.firings.slice(0, 0), trace.edges.slice(0, 0), manifest)
        with pytest.raises(EdgeError, match=said):
            why(nothing, 0)


def test_a_share_above_all_or_below_nothing_says_of_what_it_is():
    """Catches shares of 661% that stand there without a word, and words where every share is a plain one."""
    trace = looked_at()
    name, row = an_edge(trace)
    assert told.odd_shares(why(trace, edge=name)) is None
    at = trace.edges.to_pylist().index(row)
    shares = trace.edges["share"].to_pylist()
    shares[at] = 6.61
    column = trace.edges.schema.get_field_index("share")
    edges = trace.edges.set_column(column, trace.edges.schema.field("share"), pa.array(shares, pa.float32()))
    card = why(replace(trace, edges=edges), edge=name)
    for said in (re.sub(r"\s+", " ", str(card)), as_html(card)):
        for each in ("661% of what heads wrote there", "A share of 661%: weights of both signs", "--writers all"):
            assert each in said
    config = {**trace.manifest["config"], "writers": "all"}
    every = str(why(replace(trace, edges=edges, manifest={**trace.manifest, "config": config}), edge=name))
    assert "of all that is written there" in re.sub(r"\s+", " ", every)
    assert "--writers all" not in every


@pytest.mark.parametrize(
    ("strings", "text", "said"),
    [
        (("Mary", "ran"), "Mary ran", " "),
        (("Mary", " ran"), "Mary ran", ""),
        (("山", "川"), "山川", ""),
        (("3", "14"), None, " "),
        (("Mary", "ran"), None, ""),
    ],
)
def test_words_without_spaces_of_their_own_do_not_run_together(strings, text, said):
    assert words.between(strings, text) == said


def test_a_card_of_words_puts_spaces_between_them():
    trace = looked_at()
    rows = trace.prompts.to_pylist()
    spoken = [row | {"strings": [each.strip() for each in row["strings"]], "text": "Then, Mary and"} for row in rows]
    card = why(replace(trace, prompts=pa.Table.from_pylist(spoken, schema=PROMPTS)), firing="4.3@end")
    said = " ".join(card.firing.strings[11:15])
    assert said == "gave a ring to"
    assert said in re.sub(r"\s+", " ", str(card))
    assert said in re.sub(r"<[^>]+>", "", as_html(card))


@pytest.mark.parametrize(("after", "small"), [(2.0 * 1.009, True), (2.0 * 1.02, False)])
def test_an_ablation_that_changes_next_to_nothing_is_said_to(after, small):
    """Catches "logit difference 2 → 2.02" left to be read as a finding, and real effects called small."""
    name, _ = an_edge(looked_at())
    rows = [
        row | {"pattern_after": row["pattern_before"], "logit_difference_after": after}
        for row in interventions(name).to_pylist()
    ]
    card = why(looked_at(), edge=name, interventions=pa.Table.from_pylist(rows, schema=INTERVENTIONS))
    assert ("too small to matter" in dict(told.left_of_it(card))["Taken away"]) == small

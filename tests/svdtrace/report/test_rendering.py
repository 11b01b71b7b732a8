"""The page as a file: what is in it, what is left out and said to be, what can never be in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest
from made_up_trace import INJECTIONS, InParts, MadeUpTrace, Size, made_up_trace

from svdtrace.report import data as page_data
from svdtrace.report import prompt_views, render
from svdtrace.report.packing import unpacked


class Parts(HTMLParser):
    """Tags, scripts and text of a page, as an HTML parser finds them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])

    def prompts(self) -> list[dict[str, Any]]:
        return unpacked(self.data()["prompts"])


@cache
def trace() -> MadeUpTrace:
    return made_up_trace()


@cache
def parts(injected: bool = False) -> Parts:
    return Parts(render(made_up_trace(injected=injected)))


def test_the_same_trace_gives_the_same_page():
    assert render(trace()) == render(made_up_trace())


def test_nothing_in_the_page_is_loaded():
    loading = {"src", "srcset", "data", "poster", "action", "background"}
    for tag, attributes in parts().tags:
        assert not loading & attributes.keys(), tag
        assert tag == "a" or (attributes.get("href") or "data:,") == "data:,"
    style = resources.files("svdtrace.report").joinpath("page/style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_scripts_of_the_page_alone():
    policy = next(each["content"] for tag, each in parts().tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in parts().scripts[1:]]
    assert len(digests) == 2
    assert "script-src " + " ".join(f"'sha256-{digest}'" for digest in digests) + ";" in policy


def test_token_strings_come_back_from_the_data_and_make_no_markup():
    whole, plain = parts(True), parts()
    assert whole.prompts()[0]["strings"][5:9] == list(INJECTIONS)
    assert len(whole.scripts) == 3
    assert "img" not in [tag for tag, _ in whole.tags]
    assert [tag for tag, _ in whole.tags] == [tag for tag, _ in plain.tags]
    assert not set("<>&\u2028\u2029") & set(whole.scripts[0])


def test_scripts_put_text_into_text_nodes_alone():
    for file in resources.files("svdtrace.report").joinpath("page").iterdir():
        if file.name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", file.read_text()
            )


def test_the_headline_says_the_numbers_of_the_tables():
    text = " ".join(parts().text.split())
    sizes = trace().firings["size"].to_pylist()
    mean = f"{sum(sizes) / len(sizes):.1f}"
    fired = {(row["layer"], row["head"]) for row in trace().firings.select(["layer", "head"]).to_pylist()}
    assert f"{len(fired)} heads work through {mean} of 16 dimensions at a time" in text
    assert "A model of 5 layers with 8 heads each read 12 prompts." in text
    assert (
        f"{trace().firings.num_rows:,} times, a head above the first layer gave at least 50% of its attention" in text
    )
    assert f"gives {trace().edges.num_rows:,} edges" in text
    differences = trace().prompts["logit_difference"].to_pylist()
    right = sum(each > 0 for each in differences) / len(differences)
    assert f"{sum(differences) / len(differences):.3g} {right:.0%} prefer the answer" in text
    ties = sum(trace().firings["near_tie"].to_pylist()), sum(trace().edges["near_tie"].to_pylist())
    assert f"{ties[0]} of firings; {ties[1]} of edges" in text


def test_settings_versions_and_seconds_are_in_the_page():
    text = "".join(parts().text.split())
    for name, value in (
        ("threshold", "0.5"),
        ("method", "exact"),
        ("roots", "4.3@end:IO,4.6@end:IO"),
        ("version", "0.1.0"),
    ):
        assert name + value in text
    assert "librariesjax0.10.2" in text
    for stage, seconds in (("forward", "2.93"), ("attribute", "4.20"), ("total", "7.76")):
        assert stage + seconds in text
    assert "Nothing: every prompt, firing and edge of the trace is here." in parts().text


def test_settings_within_settings_are_told_one_by_one():
    trace = made_up_trace()
    deep = {
        "config": {
            **trace.manifest["config"],
            "tracing": {"tau": 0.9, "more": {"skip_first": True}},
            "each": [{"a": 1}],
        }
    }
    page = render(MadeUpTrace(trace.prompts, trace.firings, trace.edges, {**trace.manifest, **deep}))
    settings = re.sub(r"</?span[^>]*>", "", page[page.index('id="settings"') :])
    for told in ("tracing tau</dt><dd>0.9<", "tracing more skip_first</dt><dd>yes<", "each</dt><dd>a = 1<"):
        assert told in settings
    assert "{&#39;" not in page


def test_what_more_can_be_asked_names_the_folder_of_the_trace():
    page = re.sub(r"</?span[^>]*>", "", render(made_up_trace(), folder="my traces/ioi"))
    suggested = re.findall(r"<code>(svdtrace [^<]*)</code>", page)
    assert len(suggested) == 8
    assert all("&#39;my traces/ioi&#39;" in command for command in suggested if "characterise --prompts" not in command)


def test_the_views_of_prompts_hold_their_firings_and_edges():
    data = parts().data()
    edges = trace().edges.to_pylist()
    for view, prompt in zip(parts().prompts(), trace().prompts.to_pylist(), strict=True):
        firings = [row for row in trace().firings.to_pylist() if row["prompt"] == prompt["prompt"]]
        assert view["strings"] == prompt["strings"]
        columns: dict[str, list[Any]] = dict(zip(prompt_views.FIRING, view["firings"], strict=True))
        for name in ("layer", "head", "dest", "src", "size"):
            assert columns[name] == [firing[name] for firing in firings]
        members, written = iter(columns["slice"]), iter(zip(columns["writer"], columns["weight"], strict=True))
        for place, firing in enumerate(firings):
            assert [next(members) for _ in range(firing["size"])] == firing["slice"]
            for side in ("dest", "src"):
                shown = [next(written) for _ in range(columns[f"n_{side}"][place])]
                mine = {
                    edge["writer"]: edge["weight"]
                    for edge in edges
                    if edge["side"] == side
                    and all(edge[name] == firing[name] for name in ("prompt", "layer", "head", "dest", "src"))
                }
                assert [data["writers"][code] for code, _ in shown] == sorted(mine, key=lambda name: -mine[name])
                assert [weight for _, weight in shown] == pytest.approx(
                    sorted(mine.values(), reverse=True), rel=0, abs=5e-3 * max(mine.values(), default=0)
                )
        assert next(members, None) is next(written, None) is None


def test_what_does_not_fit_is_left_out_and_said(monkeypatch):
    whole = len(parts().data()["prompts"])
    html = render(trace(), limit=len(parts().scripts[0]) - whole // 2)
    shown = len(Parts(html).prompts())
    assert 0 < shown < 12
    assert f"Of single prompts, those after the first {shown} of 12." in html
    monkeypatch.setattr(page_data, "CONNECTIONS", 100)
    monkeypatch.setattr(page_data, "MOVES", 10)
    monkeypatch.setattr(prompt_views, "EDGES_PER_SIDE", 2)
    monkeypatch.setattr(prompt_views, "FIRINGS_PER_PROMPT", 5)
    cut = Parts(render(trace()))
    data, all_of_them = cut.data(), len(parts().data()["connections"]["side"])
    assert len(data["connections"]["side"]) == 100
    assert {len(view["firings"][0]) for view in cut.prompts()} == {5}
    assert f"{all_of_them - 100} of {all_of_them} connections, those with the smallest totals" in cut.text
    assert f"{trace().firings.num_rows - 12 * 5} firings beyond the" in cut.text
    assert "edges beyond the" in cut.text
    assert "rarest pairs of roles" in cut.text


@pytest.mark.parametrize("size", [1, 5])
def test_the_page_of_parts_is_that_of_the_whole(size: int):
    # Of sums in float64, row by row whatever the parts: the same bytes.
    assert render(InParts(trace(), size)) == render(trace())
    limit = len(parts().scripts[0]) - len(parts().data()["prompts"]) // 2
    assert render(InParts(trace(), size), limit=limit) == render(trace(), limit=limit)


def test_prompts_that_are_not_shown_one_by_one_are_counted_all_the_same():
    limit = len(parts().scripts[0]) - len(parts().data()["prompts"]) // 2
    cut = Parts(render(InParts(trace(), 2), limit=limit))
    shown = len(cut.prompts())
    assert [view["prompt"] for view in cut.prompts()] == list(range(shown))
    assert f"The first {shown} of 12 prompts are shown one by one; the rest of this page counts over all." in cut.text
    assert "one by one" not in parts().text
    assert {**cut.data(), "prompts": ""} == {**parts().data(), "prompts": ""}


def test_the_page_stays_small_whatever_the_trace():
    html = render(made_up_trace(Size(prompts=40, noise=30)), limit=300_000)
    libraries = len(render(made_up_trace(empty=True)))
    assert len(html) < libraries + 300_000 + 3_000


def test_a_trace_without_firings_or_without_any_prompt_gives_a_page():
    nothing = made_up_trace(empty=True)
    assert "No head of layer 1 or above fired; lower --threshold" in render(nothing)
    none = MadeUpTrace(nothing.prompts.slice(0, 0), nothing.firings, nothing.edges, {})
    for trace_without in (nothing, none):
        assert "<h1>No firing is traced</h1>" in render(trace_without)


def test_the_library_is_the_one_that_its_note_names():
    vendor = resources.files("svdtrace.report").joinpath("vendor")
    library = vendor.joinpath("cytoscape.min.js").read_bytes()
    note = vendor.joinpath("README.md").read_text()
    version = re.search(rb'version="([0-9.]+)"', library)
    assert version is not None
    assert f"Cytoscape.js {version[1].decode()}" in note
    assert f"Cytoscape.js</a> {version[1].decode()}" in render(trace())
    assert hashlib.sha256(library).hexdigest() in note
    assert "Permission is hereby granted" in vendor.joinpath("cytoscape.LICENSE").read_text()

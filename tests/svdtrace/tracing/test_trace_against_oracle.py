"""The whole trace against the slow float64 truth: every row of every table, and both graphs."""

from __future__ import annotations

from pathlib import Path

import jax
import networkx as nx
import numpy as np
import oracle
import pytest

import gpt2jax
import svdtrace
from svdtrace.graphs import formats
from svdtrace.graphs.paper import paper_graph, prompt_firings
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.prompts import Prompt
from svdtrace.tracing.roots import parse_roots

FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "side", "writer")
CONFIG = gpt2jax.GPT2Config(n_layers=4, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)
SETTINGS = [
    {"method": "exact"},
    {"method": "exact", "writers": "all", "processing": "raw", "coverage": 0.95},
    {"method": "paper"},
    {"method": "exact", "tau": 0.8, "skip_first": False, "score_min": 2.0},
    {"method": "exact", "roots": "3.1@end:*,2.2@*:A,3.0@5:3", "sides": "both"},
    {"method": "exact", "roots": "logit"},
]
# Each compiles programs of its own; what they hold beside those above is that settings do not meet.
MORE_SETTINGS = [
    {"method": "exact", "writers": "all"},
    {"method": "paper", "processing": "raw", "sides": "src"},
    {"method": "all", "threshold": 0.3},
]


def oracle_model(model: gpt2jax.Model) -> tuple[dict, dict]:
    """The model's arrays in float64, under the oracle's names."""
    params, config = model.params, model.config
    arrays = {name: value for name, value in vars(params.blocks).items() if not name.startswith("ln")}
    for name in ("ln1", "ln2"):
        norm = getattr(params.blocks, name)
        arrays |= {f"{name}_w": norm.w, f"{name}_b": norm.b}
    arrays |= {
        "ln_final_w": params.ln_final.w,
        "ln_final_b": params.ln_final.b,
        "W_E": params.W_E,
        "W_pos": params.W_pos,
    }
    arrays["W_U"] = params.W_E.T if params.W_U is None else params.W_U
    arrays["b_U"] = np.zeros(config.d_vocab) if params.b_U is None else params.b_U
    sizes = {name: getattr(config, name) for name in ("n_layers", "n_heads", "d_model", "d_mlp", "activation")}
    switches = {name: getattr(config, name) for name in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx")}
    return (
        {name: np.asarray(value, np.float64) for name, value in arrays.items()},
        {**sizes, **switches, "eps": config.layer_norm_epsilon},
    )


def random_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts of mixed lengths with overlapping roles; some lack an answer, some an `end`."""
    rng = np.random.default_rng(seed)
    prompts = []
    for place in range(count):
        length = int(rng.integers(6, 14))
        tokens = tuple(int(token) for token in rng.integers(0, CONFIG.d_vocab, length))
        roles = {"A": int(rng.integers(1, length)), "B": int(rng.integers(1, length))}
        if place % 3:
            roles["end"] = length - 2
        asked = {"answer": int(rng.integers(0, 40)), "distractor": int(rng.integers(0, 40))} if place % 2 else {}
        prompts.append(Prompt(id=None, tokens=tokens, strings=tuple(map(str, tokens)), roles=roles, **asked))
    return prompts


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(3), std=0.45, biases=0.3)


class Undecided:
    """Pairs of tokens that rounding may make fire or not (METHOD.md, section 3), and the bounds of their numbers."""

    def __init__(self, model: gpt2jax.Model, prompts: list[Prompt], settings: dict) -> None:
        processing = settings.get("processing", "folded")
        self.model = oracle.prepare(*oracle_model(model), processing)
        self.acts = [oracle.forward(self.model.params, self.model.config, prompt.tokens) for prompt in prompts]
        self.threshold, self.score_min = settings.get("threshold", 0.5), settings.get("score_min", 0.0)

    def bounds(self, key: tuple) -> dict[str, float]:
        prompt, *firing = key
        scale = oracle.attn_scale(self.model.config, firing[0])
        asked = (self.acts[prompt], self.model.svd, tuple(firing), scale)
        return {"pattern": oracle.pattern_bound(*asked), "score": oracle.score_bound(*asked)}

    def __contains__(self, key: tuple) -> bool:
        prompt, *firing = key
        acts, bound = self.acts[prompt], self.bounds(key)
        above = acts["pattern"][tuple(firing)] - self.threshold, acts["scores"][tuple(firing)] - self.score_min
        return abs(above[0]) <= bound["pattern"] or abs(above[1]) <= bound["score"]


def by_key(rows: list[dict], names: tuple[str, ...]) -> dict[tuple, dict]:
    return {tuple(row[name] for name in names): row for row in rows}


@pytest.mark.parametrize(
    "settings",
    [*SETTINGS, *(pytest.param(each, marks=pytest.mark.full) for each in MORE_SETTINGS)],
    ids=lambda each: ",".join(f"{k}={v}" for k, v in each.items()),
)
def test_every_row_equals_the_oracles(model: gpt2jax.Model, settings: dict) -> None:
    compare(model, random_prompts(6), settings)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"method": "exact"}, marks=pytest.mark.whole),
        pytest.param(SETTINGS[1], marks=pytest.mark.full),
    ],
    ids=["exact", "raw"],
)
def test_so_it_is_with_a_strangers_model(shared: Path, settings: dict) -> None:
    """Weights that were trained by others, on sentences that they continue themselves."""
    folder = shared / "models" / "capp_gpt"
    if not folder.is_dir():
        pytest.skip("needs ../shared/models, models that others trained")
    stranger = gpt2jax.load(folder)
    begun = np.random.default_rng(0).integers(0, stranger.config.d_vocab - 3, (6, 3)).astype(np.int32)
    rows = np.asarray(gpt2jax.generate(stranger, begun, 8))
    prompts = [Prompt(None, tuple(row), tuple(map(str, row)), {"end": 9}) for row in rows.tolist()]
    compare(stranger, prompts, settings)


def compare(model: gpt2jax.Model, prompts: list[Prompt], settings: dict) -> None:
    """Every firing and edge, those aside that rounding decides."""
    config = svdtrace.TraceConfig(**settings)
    ours = svdtrace.trace(model, prompts, config)
    truth = oracle.trace(*oracle_model(model), prompts, settings)
    firings, expected = by_key(ours.firings.to_pylist(), FIRING), by_key(truth.firings, FIRING)
    assert expected
    undecided = Undecided(model, prompts, settings)
    ties = {key for key in firings.keys() | expected.keys() if key in undecided}
    assert firings.keys() - ties == expected.keys() - ties
    flagged = {key for key in expected.keys() & firings.keys() if expected[key]["near_tie"]}
    compared = 0
    for key in firings.keys() & expected.keys():
        mine, true = firings[key], expected[key]
        bounds = truth.details[key]["bounds"]
        for name, bound in undecided.bounds(key).items():
            assert abs(mine[name] - true[name]) <= bound
        assert abs(mine["total"] - true["total"]) <= np.sqrt(np.sum(np.square(bounds)))
        if key in flagged:
            continue
        compared += 1
        assert sorted(mine["slice"]) == sorted(true["slice"])
        assert mine["products"] == sorted(mine["products"], reverse=True)
        for k, product in zip(mine["slice"], mine["products"], strict=True):
            assert abs(product - true["products"][true["slice"].index(k)]) <= bounds[k]
    assert compared >= 0.8 * len(expected)
    compare_edges(ours.edges.to_pylist(), truth, flagged | ties)
    if not ties and not flagged and not any(row["near_tie"] for row in truth.edges):
        assert {key: row["paths"] for key, row in firings.items()} == {
            key: row["paths"] for key, row in expected.items()
        }


def compare_edges(rows: list[dict], truth: oracle.Trace, skipped: set[tuple]) -> None:
    """Edges of firings that were decided alike: the same writers, weights within the derived bound."""
    undecided = skipped | {tuple(row[name] for name in FIRING) for row in truth.edges + rows if row["near_tie"]}
    mine = {key: row for key, row in by_key(rows, EDGE).items() if key[:5] not in undecided}
    true = {key: row for key, row in by_key(truth.edges, EDGE).items() if key[:5] not in undecided}
    assert mine.keys() == true.keys()
    assert len(true) >= 0.5 * len(truth.edges)
    for key, row in true.items():
        bound = truth.details[key[:5]][row["side"]]["bound"]
        assert abs(mine[key]["weight"] - row["weight"]) <= bound
        for name in ("token", "writer_layer", "writer_head", "nonpositive_total"):
            assert mine[key][name] == row[name]


def test_paths_of_a_trace_without_ties(model: gpt2jax.Model) -> None:
    """Path counts of the trace's own rows equal brute-force recursion over them."""
    prompts = random_prompts(6)
    for roots in ("all", "3.1@end:*,2.2@*:A"):
        ours = svdtrace.trace(model, prompts, svdtrace.TraceConfig(roots=roots, coverage=0.9))
        firings, edges = ours.firings.to_pylist(), ours.edges.to_pylist()
        starts = [key for keys in oracle.named_roots(firings, prompts, roots).values() for key in keys]
        counted = oracle.paths_by_recursion(firings, edges, starts)
        assert {tuple(row[name] for name in FIRING): row["paths"] for row in firings} == counted
        assert max(counted.values()) > 1
        assert all(row["paths"] == counted[tuple(row[name] for name in FIRING)] for row in edges)


@pytest.mark.parametrize("processing", ["folded", "raw"])
def test_root_heads_and_what_they_write(model: gpt2jax.Model, processing: str) -> None:
    """Catches another token's effects, a direction turned round, and heads left out: all effects sum to the logits."""
    prompts = random_prompts(6)
    ours = svdtrace.trace(model, prompts, svdtrace.TraceConfig(roots="logit", processing=processing))
    arrays, config = oracle_model(model)
    params = oracle.fold(arrays) if processing == "folded" else arrays
    compared = 0
    for prompt, row in zip(prompts, ours.prompts.to_pylist(), strict=True):
        acts = oracle.forward(params, config, prompt.tokens)
        logits, last = acts["logits"][prompt.last], prompt.last
        named = prompt.answer is not None and prompt.distractor is not None
        asked = (prompt.answer, prompt.distractor) if named else (None, None)
        effects = oracle.direct_effects(params, config, acts, last, *asked)
        target = prompt.answer if named else int(np.argmax(logits))
        difference = logits[prompt.answer] - logits[prompt.distractor] if named else logits[target] - logits.mean()
        assert sum(effect for _, effect in effects) == pytest.approx(difference, rel=1e-9)
        # float32: of each effect, and of their sum, by the size of what is added up.
        bound = ACTIVATION_ERROR * sum(abs(effect) for _, effect in effects)
        by_head = {writer.name: effect for writer, effect in effects if writer.kind == "head"}
        found = dict(row["root_effects"])
        for head, effect in found.items():
            assert abs(effect - by_head[head]) <= bound
        cut = oracle.coverage_cut(list(by_head.values()), 0.7)
        if not cut.near_tie:
            assert found.keys() == {list(by_head)[place] for place in cut.chosen}
            compared += 1
        assert row["target"] == target
        assert row["target_string"] == str(target)
        probability = np.exp(logits[target] - logits.max()) / np.exp(logits - logits.max()).sum()
        assert row["target_probability"] == pytest.approx(probability, rel=ACTIVATION_ERROR * np.abs(logits).max())
        if named:
            assert abs(row["logit_difference"] - difference) <= bound
    assert compared >= 4
    assert not any(row["root_effects"] for row in svdtrace.trace(model, prompts[:2]).prompts.to_pylist())


@pytest.mark.parametrize("roots", ["3.1@end:*,3.2@*:A,2.2@*:A", "logit"])
def test_graph_of_the_same_rows(model: gpt2jax.Model, roots: str) -> None:
    """Catches a node of another token, sides in one, roles of j counted otherwise: equals the oracle's counting."""
    prompts = random_prompts(12)
    ours = svdtrace.trace(model, prompts, svdtrace.TraceConfig(method="paper", roots=roots, coverage=0.9))
    effects = {row["prompt"]: dict(row["root_effects"]) for row in ours.prompts.to_pylist() if row["root_effects"]}
    expected = oracle.graph(ours.edges.to_pylist(), prompts, effects)
    graph = ours.graph()
    assert isinstance(graph, nx.MultiDiGraph)
    assert set(graph.edges(keys=True)) == expected.keys()
    assert ("output" in graph) == (roots == "logit")
    for edge, attributes in expected.items():
        held = {name: value for name, value in attributes.items() if value is not None}
        assert graph.edges[edge] == {
            name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value for name, value in held.items()
        }


def test_published_graph_of_the_same_rows(model: gpt2jax.Model) -> None:
    """The published graph, built from the tables, equals the oracle's literal counting."""
    prompts = random_prompts(12)
    roots = "3.1@end:*,3.2@*:A,2.2@*:A"
    ours = svdtrace.trace(model, prompts, svdtrace.TraceConfig(method="paper", roots=roots, coverage=0.9))
    firings, edges = ours.firings.to_pylist(), ours.edges.to_pylist()
    nodes, links = oracle.paper_graph(firings, edges, prompts, oracle.named_roots(firings, prompts, roots))
    named = parse_roots(roots, model.config, prompts)
    per_head = {tuple(map(int, head.split("."))): n for head, n in ours.manifest["counts"]["firings_per_head"].items()}
    paper = paper_graph(prompt_firings(ours.prompts, ours.firings, ours.edges, named), per_head)
    assert {str(node) for node in nodes} == set(paper.nodes)
    assert {(str(source), str(target)) for source, target in links} == set(paper.edges)
    assert any(attributes["count"] > 1 for attributes in links.values())
    for (source, target), attributes in links.items():
        for name in ("weight", "total"):
            assert paper.edges[str(source), str(target)][name] == pytest.approx(attributes[name], rel=1e-12)
        for name in ("count", "type", "src_token", "dest_token", "prompt"):
            assert paper.edges[str(source), str(target)][name] == attributes[name]


@pytest.mark.whole
def test_graph_files_round_trip(model: gpt2jax.Model, tmp_path: object) -> None:
    ours = svdtrace.trace(model, random_prompts(4), svdtrace.TraceConfig())
    graph = ours.graph()
    for name in ("graph.json", "graph.graphml"):
        formats.write(graph, tmp_path / name)
        again = formats.read(tmp_path / name)
        assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
        assert list(again.edges(keys=True, data=True)) == list(graph.edges(keys=True, data=True))

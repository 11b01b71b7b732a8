"""What an atlas finds on GPT-2 small, unprompted."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import gpt2jax
from svdtrace.atlas import Atlas, write_atlas
from svdtrace.atlas.prediction import prediction_tables

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def atlas(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Atlas, Path]:
    model = gpt2jax.load(shared / "gpt2", parts=("heads", "positions"))
    folder = tmp_path_factory.mktemp("gpt2") / "atlas"
    return write_atlas(model, folder), folder


def pairs(atlas: tuple[Atlas, Path], reader: str, side: str) -> dict[str, dict]:
    layer, head = map(int, reader.split("."))
    table = atlas[0].tables["composition"]
    mine = table.filter((pc.field("layer") == layer) & (pc.field("head") == head) & (pc.field("side") == side))
    return {row["writer"]: row for row in mine.to_pylist()}


def of_head(atlas: tuple[Atlas, Path], head: str) -> dict:
    layer, number = map(int, head.split("."))
    table = atlas[0].tables["heads"]
    return table.filter((pc.field("layer") == layer) & (pc.field("head") == number)).to_pylist()[0]


@pytest.mark.parametrize(
    ("reader", "score"),
    [("5.0", 0.089), ("5.1", 0.102), ("5.5", 0.097), ("6.9", 0.103), ("7.2", 0.087), ("7.10", 0.090)],
)
def test_the_previous_token_head_writes_what_induction_heads_keys_read(atlas: tuple, reader: str, score: float):
    row = pairs(atlas, reader, "k")["4.11"]
    assert (row["rank"], row["beyond_rank"]) == (1, 1)
    assert row["score"] == pytest.approx(score, abs=5e-4)


def test_not_every_reader_of_layer_5_reads_it(atlas: tuple):
    assert pairs(atlas, "5.9", "k")["4.11"]["rank"] == 56
    table = atlas[0].tables["composition"].filter(pc.field("side") == "k")
    assert np.median(table["score"]) == pytest.approx(0.038, abs=5e-4)


@pytest.mark.parametrize(("reader", "score"), [("9.6", 0.070), ("9.9", 0.064), ("10.0", 0.068)])
def test_s_inhibition_leads_the_queries_of_name_movers_until_medians_are_taken_out(
    atlas: tuple, reader: str, score: float
):
    row = pairs(atlas, reader, "q")["8.10"]
    assert row["rank"] == 1
    assert row["score"] == pytest.approx(score, abs=5e-4)
    assert row["beyond_rank"] > 5


def test_induction_and_duplicate_token_heads_lead_the_value_of_8_6(atlas: tuple):
    found = pairs(atlas, "8.6", "v")
    assert [found[writer]["rank"] for writer in ("5.5", "3.0")] == [1, 2]


def test_eigenvalue_positivity(atlas: tuple):
    assert [round(of_head(atlas, head)["qk_positivity"], 2) for head in ("0.1", "0.5", "0.10")] == [1, 1, 1]
    assert round(of_head(atlas, "8.10")["ov_positivity"], 2) == -0.98
    assert round(of_head(atlas, "4.11")["ov_positivity"], 2) == 0.96


@pytest.mark.parametrize(
    ("head", "with_bias", "without"), [("0.0", 13.3, 2.4), ("4.11", 54.5, 18.5), ("9.9", 9.4, 2.4)]
)
def test_bias_rows_make_first_singular_values(atlas: tuple, head: str, with_bias: float, without: float):
    row = of_head(atlas, head)
    assert (round(row["sigma"], 1), round(row["sigma_no_bias"], 1)) == (with_bias, without)


def test_outliers_lead_the_raw_tables_through_one_subspace(atlas: tuple):
    table = atlas[0].tables["composition"]
    for side in "qk":
        first = table.filter(pc.field("side") == side).sort_by([("score", "descending")]).slice(0, 8)
        assert set(first["writer"].to_pylist()) <= {"1.8", "0.11", "1.3", "1.9"}
        readers = {f"{row['layer']}.{row['head']}" for row in first.to_pylist()}
        assert readers <= {"10.9", "10.5", "9.3", "9.10"}


def test_three_directions_hold_the_positions_and_make_no_previous_token_head(atlas: tuple):
    assert sum(atlas[0].manifest["position_directions"][:3]) == pytest.approx(0.91, abs=5e-3)
    assert pc.max(atlas[0].tables["heads"]["position_previous"]).as_py() < 0.3
    assert of_head(atlas, "4.11")["position_previous"] < 0.1


def test_the_previous_token_head_needs_many_vectors(atlas: tuple):
    half = [pairs(atlas, reader, "k")["4.11"]["half"] for reader in ("5.0", "5.1", "5.5", "6.9", "7.2", "7.10")]
    assert half == [11, 17, 16, 16, 20, 18]


def test_every_pair_side_and_vector_is_there(atlas: tuple):
    assert atlas[0].tables["composition"].num_rows == 3 * 144 * 132 // 2
    vectors = pq.ParquetFile(atlas[1] / "vectors.parquet")
    assert vectors.metadata.num_rows == 2 * 64 * 144 * 132 // 2
    first = vectors.read_row_group(1)
    assert first["null_mean"].type == pa.float32()
    assert pc.min(first["share"]).as_py() > 0


def test_weights_alone_half_predict_the_published_circuit(atlas: tuple, shared: Path):
    counts = np.zeros((2, 144, 144), np.int64)
    for writer, reader, edge in nx.read_graphml(shared / "paper" / "graph.graphml").edges(data=True):
        (m, a), (layer, head) = (ast.literal_eval(name)[:2] for name in (writer, reader))
        counts["ds".index(edge["type"]), 12 * layer + head, 12 * m + a] += edge["count"]
    prediction, _ = prediction_tables(counts, atlas[0].pairs, 12)
    whole = prediction.filter(pc.field("layer").is_null() & (pc.field("measure") == "score")).to_pylist()
    assert [round(row["auc"], 2) for row in whole] == [0.68, 0.71]
    assert [round(row["auc_edges"], 2) for row in whole] == [0.74, 0.79]
    of_8_6 = prediction.filter((pc.field("layer") == 8) & (pc.field("head") == 6) & (pc.field("measure") == "score"))
    assert all(auc < 0.56 for auc in of_8_6["auc"].to_pylist())

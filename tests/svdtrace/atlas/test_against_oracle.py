"""An atlas against its definitions in float64, on a random model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import atlas as truth
from small_model import jax_model, small_model
from undescribed_columns import undescribed

from svdtrace.atlas import Atlas, write_atlas

EPS = float(np.finfo(np.float32).eps)
LAYERS, HEADS = 3, 2


@pytest.fixture(scope="module")
def model() -> tuple[dict, dict]:
    """Folded, three layers; in one head singular values are equal two by two, with bias rows; one reads nothing."""
    params, config = small_model(3, n_layers=LAYERS, n_heads=HEADS, d_model=16)
    params = {name: value.astype(np.float32) for name, value in oracle.fold(params).items()}
    rng, (d_model, d_head) = np.random.default_rng(1), params["W_Q"].shape[2:]
    for name in "QK":
        # Orthonormal columns with their bias rows, so that the values are those of the scales.
        columns = rng.standard_normal((d_model + 1, d_head))
        columns[:-1] -= columns[:-1].mean(axis=0)
        basis = np.linalg.qr(columns)[0]
        scales = np.sqrt(1 + np.arange(d_head)[::-1] // 2) if name == "Q" else 1
        params[f"W_{name}"][2, 0], params[f"b_{name}"][2, 0] = basis[:-1] * scales, basis[-1] * scales
    params["W_Q"][1, 1], params["b_Q"][1, 1] = 0, 0
    return params, config


@pytest.fixture(scope="module")
def folded(model: tuple[dict, dict]) -> dict:
    return {name: np.asarray(value, np.float64) for name, value in model[0].items()}


@pytest.fixture(scope="module")
def found(model: tuple[dict, dict], tmp_path_factory: pytest.TempPathFactory) -> tuple[Atlas, Path]:
    folder = tmp_path_factory.mktemp("atlas") / "atlas"
    return write_atlas(jax_model(*model), folder, token_vectors=2), folder


def rows(found: tuple[Atlas, Path], name: str) -> list[dict]:
    return pq.read_table(found[1] / f"{name}.parquet").to_pylist()


def head_of(name: str) -> tuple[int, int]:
    layer, head = name.split(".")
    return int(layer), int(head)


def written(folded: dict, writer: str) -> np.ndarray:
    here = head_of(writer)
    return folded["W_V"][here] @ folded["W_O"][here]


def test_composition_scores_and_what_stands_beside_them(found: tuple[Atlas, Path], folded: dict, model: tuple):
    """Catches a side read for another, a norm left out, a pair left out, and bias rows on the wrong side."""
    table = rows(found, "composition")
    assert len(table) == 3 * HEADS * HEADS * LAYERS * (LAYERS - 1) // 2
    bound = 50 * model[1]["d_model"] * EPS
    values: dict[tuple, list] = {}
    for row in table:
        reader = row["layer"], row["head"]
        assert head_of(row["writer"]) == (row["writer_layer"], row["writer_head"])
        if reader == (1, 1) and row["side"] != "v":
            assert row["score"] is row["rank"] is row["null_mean"] is None
            continue
        expected = truth.composition(written(folded, row["writer"]), truth.reader_matrix(folded, reader, row["side"]))
        assert row["score"] == pytest.approx(expected, abs=bound)
        assert row["null_mean"] ** 2 + row["null_sd"] ** 2 == pytest.approx(1 / (model[1]["d_model"] - 1), rel=1e-5)
        values.setdefault((row["side"], reader), []).append((row["score"], row["rank"]))
        if row["side"] == "v":
            assert row["with_bias"] is row["half"] is None
        else:
            both = truth.with_bias_matrix(folded, reader, row["side"])
            assert row["with_bias"] == pytest.approx(truth.composition(written(folded, row["writer"]), both), abs=bound)
    for each in values.values():
        assert [rank for _, rank in sorted(each, reverse=True)] == list(range(1, len(each) + 1))


def test_medians_are_taken_out(found: tuple[Atlas, Path]):
    """Catches a median over all sides together, or over the wrong end of pairs."""
    table = [row for row in rows(found, "composition") if row["score"] is not None]
    for row in table:
        mine = [each for each in table if each["side"] == row["side"]]
        of_writer = np.median([each["score"] for each in mine if each["writer"] == row["writer"]])
        reader = row["layer"], row["head"]
        of_reader = np.median([each["score"] for each in mine if (each["layer"], each["head"]) == reader])
        expected = row["score"] - of_writer - of_reader + np.median([each["score"] for each in mine])
        assert row["beyond"] == pytest.approx(expected, abs=4 * EPS)


def test_shares_on_vectors_and_on_blocks(found: tuple[Atlas, Path], folded: dict, model: tuple):
    """Catches û of another length, u read for v, a block that ends too soon, and bias entries left in its span."""
    svd = oracle.decompose(folded, model[1])
    bound = 50 * model[1]["d_model"] * EPS
    table = rows(found, "vectors")
    n_earlier = sum(
        2 * HEADS * layer * int(svd.rank[layer, head]) for layer in range(1, LAYERS) for head in range(HEADS)
    )
    assert len(table) == n_earlier
    n_alone = 0
    for row in table:
        reader = row["layer"], row["head"]
        sigma = svd.S[reader]
        gaps = np.abs(np.delete(sigma, row["vector"]) - sigma[row["vector"]])
        if gaps.min() < 0.02 * sigma[row["vector"]]:
            continue
        n_alone += 1
        vector = truth.vectors_of(svd, reader, row["side"])[:, [row["vector"]]]
        expected = truth.share(written(folded, row["writer"]), vector)
        assert row["share"] == pytest.approx(expected, abs=bound * sigma[0] / gaps.min())
        assert row["null_mean"] == pytest.approx(1 / (model[1]["d_model"] - 1))
        assert row["block"] == row["vector"]
    assert n_alone > 50
    blocks = [row for row in rows(found, "blocks") if (row["layer"], row["head"]) == (2, 0)]
    assert blocks
    for row in blocks:
        vectors = truth.vectors_of(svd, (2, 0), row["side"])[:, row["block"] : row["block"] + row["size"]]
        assert row["share"] == pytest.approx(truth.share(written(folded, row["writer"]), vectors), abs=20 * bound)
        assert row["null_mean"] == pytest.approx(row["size"] / (model[1]["d_model"] - 1))


def test_positions_alone(found: tuple[Atlas, Path], folded: dict, model: tuple):
    """Catches another scale than a position's own, bias rows left out, and position 0 let in."""
    singular = {(row["layer"], row["head"], row["vector"]): row for row in rows(found, "singular")}
    svd = oracle.decompose(folded, model[1])
    for layer, head in ((0, 0), (2, 1)):
        scale = oracle.attn_scale(model[1], layer)
        scores = truth.position_scores(folded, model[1], (layer, head), scale)
        mine = [row for row in rows(found, "positions") if (row["layer"], row["head"]) == (layer, head)]
        assert {(row["dest"], row["src"]) for row in mine} == {
            (i, j) for i in range(1, len(scores)) for j in range(1, i + 1)
        }
        size = np.abs(scores).max()
        for row in mine:
            assert row["score"] == pytest.approx(scores[row["dest"], row["src"]], abs=1e-5 * size)
        x = folded["W_pos"] / np.sqrt((folded["W_pos"] ** 2).mean(-1, keepdims=True) + model[1]["eps"])
        x = np.hstack([x, np.ones((len(x), 1))])
        products = svd.S[layer, head] * (x @ svd.U[layer, head])[:, None] * (x @ svd.V[layer, head])[None]
        energy = sum(
            ((products[i, 1 : i + 1] - products[i, 1 : i + 1].mean(axis=0)) ** 2).sum(axis=0) for i in range(1, len(x))
        )
        for k, expected in enumerate(energy / energy.sum()):
            assert singular[layer, head, k]["position_share"] == pytest.approx(expected, abs=1e-4)


def test_heads_by_their_dense_matrices(found: tuple[Atlas, Path], folded: dict):
    """Catches one matrix's eigenvalues for the other's, and σ with and without bias rows exchanged."""
    for row in rows(found, "heads"):
        here = row["layer"], row["head"]
        for name, matrix in (
            ("qk", folded["W_Q"][here] @ folded["W_K"][here].T),
            ("ov", folded["W_V"][here] @ folded["W_O"][here]),
        ):
            if not matrix.any():
                assert row[f"{name}_positivity"] is row[f"{name}_participation"] is None
                continue
            values = np.linalg.eigvals(matrix)
            assert row[f"{name}_positivity"] == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-4)
            squares = np.linalg.svd(matrix, compute_uv=False) ** 2
            assert row[f"{name}_participation"] == pytest.approx(squares.sum() ** 2 / (squares**2).sum(), rel=1e-4)
        both = (
            np.vstack([folded["W_Q"][here], folded["b_Q"][here]])
            @ np.vstack([folded["W_K"][here], folded["b_K"][here]]).T
        )
        without = folded["W_Q"][here] @ folded["W_K"][here].T
        for name, matrix in (("sigma", both), ("sigma_no_bias", without)):
            assert row[name] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-4, abs=1e-6)


def test_tokens_at_the_ends_of_vectors(found: tuple[Atlas, Path], folded: dict, model: tuple):
    """Catches the two ends exchanged, and tokens read without their scale."""
    svd = oracle.decompose(folded, model[1])
    x = folded["W_E"] / np.sqrt((folded["W_E"] ** 2).mean(-1, keepdims=True) + model[1]["eps"])
    table = [row for row in rows(found, "tokens") if row["rank"] == 1 and (row["layer"], row["head"]) == (2, 1)]
    assert {(row["vectors"], row["end"]) for row in table} == {
        (a, b) for a in ("q", "k", "read", "written") for b in "+-"
    }
    for row in table:
        if row["vectors"] in "qk":
            values = x @ truth.vectors_of(svd, (2, 1), row["vectors"])[:, row["vector"]]
            best = values.argmax() if row["end"] == "+" else values.argmin()
            assert row["token"] == best
            assert row["value"] == pytest.approx(values[best], rel=1e-3)


def test_every_column_says_what_it_means(found: tuple[Atlas, Path]):
    assert not undescribed(found[1])
    assert {each.name for each in found[1].iterdir()} >= {"atlas.html", "composition.png", "heads.svg", "manifest.json"}
    assert found[0].tables["composition"].schema.field("rank").type == pa.int32()

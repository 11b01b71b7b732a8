"""The tables of a trace: the contract's columns, and rows made by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from svdtrace.method.firings import FiringList
from svdtrace.prompts import Prompt
from svdtrace.results.columns import DESCRIPTION
from svdtrace.tracing import tables
from svdtrace.tracing.roots import RootHeads
from svdtrace.tracing.rows import EdgeRows, Rows, SliceRows, WriterOrder

CONTRACT = {
    "PROMPTS": "prompt int32, id string, tokens list<int32>, strings list<string>, roles map<string, int32>, "
    "answer int32, distractor int32, logit_difference float, text string, root_effects map<string, float>, "
    "target int32, target_string string, target_probability float",
    "FIRINGS": "prompt int32, layer int32, head int32, dest int32, src int32, pattern float, score float, total float, "
    "size int32, slice list<int32>, products list<float>, near_tie bool, paths int64, "
    "dest_role string, src_role string",
    "EDGES": "prompt int32, writer string, writer_layer int32, writer_head int32, layer int32, head int32, dest int32, "
    "src int32, side string, token int32, weight float, share float, near_tie bool, nonpositive_total bool, "
    "paths int64, role string",
}
ORDER = WriterOrder.of(3, 2)
CONST = len(ORDER.labels) - 1
TWO = [Prompt(None, (1,) * 5, ("",) * 5, {"A": 3, "B": 1, "C": 3}), Prompt(None, (1,) * 3, ("",) * 3, {"end": 2})]


def made_rows() -> Rows:
    """Three firings, the second with an empty slice and a total of 0."""
    as_int = lambda values: np.asarray(values, np.int32)  # noqa: E731
    as_float = lambda values: np.asarray(values, np.float32)  # noqa: E731
    return Rows(
        firings=FiringList(
            prompt=as_int([0, 0, 1]),
            layer=as_int([1, 2, 2]),
            head=as_int([0, 1, 0]),
            dest=as_int([3, 4, 2]),
            src=as_int([1, 2, 1]),
            pattern=as_float([0.6, 0.7, 0.8]),
            score=as_float([1, 2, 3]),
        ),
        slices=SliceRows(
            offset=np.asarray([0, 2, 2, 3]),
            vectors=as_int([4, 0, 1]),
            products=as_float([5, 2, 3]),
            total=as_float([6, 0, 2.5]),
            near_tie=np.asarray([True, False, False]),
        ),
        edges=EdgeRows(
            firing=np.asarray([0, 0, 1, 2]),
            side=np.asarray([0, 1, 0, 1]),
            writer=np.asarray([0, 6, 3, CONST]),
            weight=as_float([4, 3, 1, -1]),
            total=as_float([8, 6, 0, -2]),
            near_tie=np.asarray([False, True, False, False]),
            token=as_int([3, 1, 4, 1]),
        ),
    )


def test_schemas_are_the_contracts() -> None:
    """Catches a column renamed, retyped, moved or lost."""
    for name, columns in CONTRACT.items():
        schema = getattr(tables, name)
        found = ", ".join(f"{field.name} {str(field.type).replace('item: ', '')}" for field in schema)
        assert found.replace(" ('", "").replace("')", "") == columns


def test_firings_by_hand() -> None:
    """Catches slices given to another firing when rows are left out, and prompts numbered within their batch."""
    table = tables.firings_table(
        made_rows(), np.asarray([1, 2, 3]), np.asarray([True, True, True]), np.asarray([7, 9]), TWO
    )
    assert table.schema == tables.FIRINGS
    assert table["prompt"].to_pylist() == [7, 7, 9]
    assert table["slice"].to_pylist() == [[4, 0], [], [1]]
    assert table["products"].to_pylist() == [[5, 2], [], [3]]
    assert table["size"].to_pylist() == [2, 0, 1]
    assert table["total"].to_pylist() == [6, 0, 2.5]
    assert table["dest_role"].to_pylist() == ["C", None, "end"]
    assert table["src_role"].to_pylist() == ["B", None, None]
    some = tables.firings_table(
        made_rows(), np.asarray([0, 2, 3]), np.asarray([False, True, True]), np.asarray([7, 9]), TWO
    )
    assert some.equals(table.slice(1))


def test_edges_by_hand() -> None:
    """Catches a token of the other side, a share of another side's total, and codes for names."""
    table = tables.edges_table(
        made_rows(), np.asarray([1, 2, 3]), np.asarray([True, True, True]), np.asarray([7, 9]), TWO, ORDER
    )
    assert table.schema == tables.EDGES
    assert table["writer"].to_pylist() == ["0.0", "attn_bias.0", "1.1", "const"]
    assert table["writer_layer"].to_pylist() == [0, 0, 1, None]
    assert table["writer_head"].to_pylist() == [0, None, 1, None]
    assert table["side"].to_pylist() == ["dest", "src", "dest", "src"]
    assert table["token"].to_pylist() == [3, 1, 4, 1]
    assert table["share"].to_pylist() == [0.5, 0.5, None, 0.5]
    assert table["nonpositive_total"].to_pylist() == [False, False, True, True]
    assert table["near_tie"].to_pylist() == [False, True, False, False]
    assert table["paths"].to_pylist() == [1, 1, 2, 3]
    assert table["role"].to_pylist() == ["C", "B", None, None]
    some = tables.edges_table(
        made_rows(), np.asarray([0, 2, 3]), np.asarray([False, True, True]), np.asarray([7, 9]), TWO, ORDER
    )
    assert some.equals(table.slice(2))


def test_every_column_says_what_it_is() -> None:
    """Catches a column without a description."""
    for schema in (tables.PROMPTS, tables.FIRINGS, tables.EDGES):
        assert all(field.metadata[DESCRIPTION] for field in schema)


def test_roles_are_found_in_tables_without_them() -> None:
    """Catches roles looked up by the prompt's row instead of its number, and columns in another order."""
    prompts = tables.prompts_table(TWO, np.zeros(2), [9, 7])
    arguments = np.asarray([1, 2, 3]), np.asarray([True, True, True]), np.asarray([9, 7]), TWO
    for whole in (tables.firings_table(made_rows(), *arguments), tables.edges_table(made_rows(), *arguments, ORDER)):
        plain = whole.drop_columns([name for name in tables.ROLES if name in whole.column_names])
        assert plain.num_columns < whole.num_columns
        assert tables.with_roles(prompts, plain).equals(whole)


def test_prompts_by_hand() -> None:
    """Catches roles out of order and NaN where nothing is defined."""
    asked = [
        Prompt("a", (1, 2), ("x", "y"), {"S": 1, "IO": 0}, answer=1, distractor=2, text="xy"),
        Prompt(None, (3,), ("z",)),
    ]
    table = tables.prompts_table(asked, np.asarray([0.5, np.nan]), [4, 2])
    assert table.schema == tables.PROMPTS
    assert not any(row[name] is not None for row in table.to_pylist() for name in tables.WRITTEN)
    assert table.drop_columns(list(tables.WRITTEN)).to_pylist() == [
        {
            "prompt": 4,
            "id": "a",
            "tokens": [1, 2],
            "strings": ["x", "y"],
            "roles": [("S", 1), ("IO", 0)],
            "answer": 1,
            "distractor": 2,
            "logit_difference": 0.5,
            "text": "xy",
        },
        {
            "prompt": 2,
            "id": None,
            "tokens": [3],
            "strings": ["z"],
            "roles": [],
            "answer": None,
            "distractor": None,
            "logit_difference": None,
            "text": None,
        },
    ]


def test_what_root_heads_write() -> None:
    """Catches effects of heads that were not chosen, and those of prompts that only fill the batch."""
    heads = RootHeads(
        effect=jnp.arange(18.0).reshape(3, 3, 2),
        chosen=jnp.zeros((3, 3, 2), bool).at[0, 2, 1].set(True).at[1, 0, 0].set(True).at[2].set(True),
        target=jnp.asarray([4, 7, 0]),
        probability=jnp.asarray([0.5, 0.25, 0.0]),
    )
    written = tables.Written.of(heads, np.arange(2), ORDER, None)
    table = tables.prompts_table(TWO, np.zeros(2), None, written)
    assert table.select(list(tables.WRITTEN)).to_pylist() == [
        {"root_effects": [("2.1", 5.0)], "target": 4, "target_string": "4", "target_probability": 0.5},
        {"root_effects": [("0.0", 6.0)], "target": 7, "target_string": "7", "target_probability": 0.25},
    ]


def test_undefined_is_null() -> None:
    column = tables.defined(np.asarray([1.0, np.nan]))
    assert column.type == pa.float32()
    assert column.to_pylist() == [1.0, None]


def test_writers_stand_in_one_order() -> None:
    """Catches another order of writers than METHOD.md, section 5, and writers at or above the reader."""
    assert ORDER.labels == (
        *("0.0", "0.1", "1.0", "1.1", "2.0", "2.1"),
        *("attn_bias.0", "attn_bias.1", "attn_bias.2", "mlp.0", "mlp.1", "mlp.2", "embed", "pos", "const"),
    )
    assert [ORDER.labels[code] for code in ORDER.codes_below(1)] == [
        *("0.0", "0.1", "attn_bias.0", "mlp.0", "embed", "pos", "const"),
    ]
    assert all(len(each) == len(ORDER.labels) for each in (ORDER.layer, ORDER.head))

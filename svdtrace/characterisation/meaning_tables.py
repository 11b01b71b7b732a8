"""The tables of one firing, of what slices filter out, and of what signals mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.characterisation.concentration import MEASURES, SETS
from svdtrace.characterisation.filtering import Filtering, Key
from svdtrace.characterisation.schemas import SCHEMAS, filled, from_rows
from svdtrace.characterisation.signals import Signals, nearest_tokens
from svdtrace.characterisation.usage import HeadUsage
from svdtrace.errors import SettingError
from svdtrace.statistics import bootstrap_interval
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES

_FIRING = ("prompt", "layer", "head", "dest", "src")


def example_firing(usage: HeadUsage, root: str | None) -> Key | None:
    """The firing that is shown: of those that `root` names the one with the largest score; without `root`, of the head
    in the upper half of the layers that fires most, the one in the middle by |S| and score, from another token where
    there is one. None where nothing fires.

    Raises:
        SettingError: the root names no firing.
        RootError: it names no head, role or position.
    """
    if root is not None:
        named = usage.at(root)
        if not len(named):
            raise SettingError(f'"{root}" names no firing on these prompts; name one that heads.parquet counts')
        return _key(named, int(np.argmax(named.where.score)))
    count = usage.count.copy()
    count[: max(1, len(count) // 2)] = 0
    if not count.sum():
        return None
    firings = usage.firings.of_head(*(int(each) for each in np.unravel_index(np.argmax(count), count.shape)))
    # A token that reads itself says least of how heads talk.
    apart = firings.where.dest != firings.where.src
    firings = firings.take(apart) if apart.any() else firings
    return _key(firings, int(np.lexsort((firings.total, firings.size))[len(firings) // 2]))


def _key(firings: Any, row: int) -> Key:
    prompt, layer, head, dest, src = (int(getattr(firings.where, name)[row]) for name in _FIRING)
    return prompt, layer, head, dest, src


def products_table(usage: HeadUsage, example: Key | None) -> pa.Table:
    """`firing_products.parquet`."""
    if example is None:
        return SCHEMAS["firing_products"].empty_table()
    where = usage.firings.where
    here = np.all([getattr(where, name) == value for name, value in zip(_FIRING, example, strict=True)], axis=0)
    row = int(np.flatnonzero(here)[0])
    p = usage.firings.products[row]
    order = np.argsort(-p, kind="stable")
    columns = _repeated(usage, example, len(p))
    columns |= {"place": np.arange(1, len(p) + 1), "k": order, "product": p[order], "running_sum": np.cumsum(p[order])}
    columns |= {"member": usage.firings.members[row][order], "total": [usage.firings.total[row]] * len(p)}
    return filled("firing_products", columns)


def _repeated(usage: HeadUsage, example: Key, count: int) -> dict[str, Any]:
    """The columns that say which firing it is."""
    values = dict(zip(_FIRING, example, strict=True))
    strings = usage.prompts[example[0]].strings
    values |= {f"{end}_string": strings[values[end]] for end in ("dest", "src")}
    values["prompt"] = int(usage.places[example[0]])
    return {name: [value] * count for name, value in values.items()}


def contributions_table(usage: HeadUsage, found: Filtering, example: Key | None) -> pa.Table:
    """`firing_contributions.parquet`."""
    if example is None or found.example is None:
        return SCHEMAS["firing_contributions"].empty_table()
    side, writer = np.nonzero(np.isfinite(found.example[0]))
    layer, head = np.divmod(writer, usage.model.n_heads)
    columns = _repeated(usage, example, len(writer))
    columns |= {"side": [SIDES[each] for each in side], "writer_layer": layer, "writer_head": head}
    columns |= {name: found.example[place, side, writer] for place, name in enumerate(SETS)}
    return filled("firing_contributions", columns)


def filtering_table(sets: dict[str, Filtering], seed: int) -> pa.Table:
    """`filtering.parquet`."""
    rows = []
    for name, found in sets.items():
        heads = np.unique(np.stack([found.layer, found.head], axis=-1), axis=0).astype(int).tolist()
        for layer, head in [(None, None), *heads]:
            mine = slice(None) if layer is None else (found.layer == layer) & (found.head == head)
            for place, side in enumerate(SIDES):
                measures = found.measures[mine, :, :, place]
                row: dict[str, Any] = {"data_set": name, "layer": layer, "head": head, "side": side}
                row["firings"] = len(measures)
                rows.append(row | _measures(measures, seed, whole=layer is None))
    return from_rows("filtering", rows)


def _measures(values: np.ndarray, seed: int, whole: bool) -> dict[str, float]:
    """Means of the measures, [firing measure set], and by how many times a slice cuts the effective number of heads."""
    means = {
        f"{measure}_{part}": _mean(values[:, m, p]) for m, measure in enumerate(MEASURES) for p, part in enumerate(SETS)
    }
    effective = values[:, MEASURES.index("effective")]
    ratio = effective[:, SETS.index("all")] / effective[:, SETS.index("slice")]
    low, high = bootstrap_interval(ratio, seed) if whole else (np.nan, np.nan)
    return means | {"ratio": _mean(ratio), "ratio_low": low, "ratio_high": high}


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else np.nan


def signals_tables(prepared: Prepared, found: Signals) -> tuple[pa.Table, pa.Table]:
    """`signals.parquet` and `signal_pairs.parquet`."""
    tokens, cosines = nearest_tokens(prepared, found.direction)
    tokenizer = prepared.model.tokenizer
    strings = [tokenizer.strings(row.tolist()) if tokenizer is not None else list(map(str, row)) for row in tokens]
    rows = [
        {
            "signal": number,
            "writer": f"{kind.writer[0]}.{kind.writer[1]}",
            "reader": f"{kind.reader[0]}.{kind.reader[1]}",
            "side": kind.side,
            "role": kind.role,
            "edges": len(kind.rows),
            "weight": kind.weight,
            "norm": found.norm[number],
            "kept": found.kept[number],
            "agreement": found.agreement[number],
            "tokens": tokens[number].tolist(),
            "strings": list(strings[number]),
            "cosines": cosines[number].tolist(),
        }
        for number, kind in enumerate(found.kinds)
    ]
    one, other = np.triu_indices(len(found.kinds), 1)
    likeness = found.cosines()[one, other]
    writers = [(kind.writer, kind.role) for kind in found.kinds]
    readers = [(kind.reader, kind.side) for kind in found.kinds]
    pairs = {
        "signal": one,
        "other": other,
        "cosine": likeness,
        "same_writer": [writers[a] == writers[b] for a, b in zip(one, other, strict=True)],
        "same_reader": [readers[a] == readers[b] for a, b in zip(one, other, strict=True)],
    }
    return from_rows("signals", rows), filled("signal_pairs", pairs)

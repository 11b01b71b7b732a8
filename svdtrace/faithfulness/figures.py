"""Pictures of a `circuit`: both curves, and how three measures of an edge agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from svdtrace.faithfulness.curves import ATTRIBUTION, COMPLETE, FAITHFUL, KINDS, RANDOM, TRACED
from svdtrace.faithfulness.editing import MEASURES, SUFFIXES
from svdtrace.pictures.colours import DEST, SOFT, SRC
from svdtrace.pictures.style import STYLE, nothing, save

Tables = Mapping[str, pa.Table]
"""The tables of a `circuit` by name (`svdtrace.faithfulness.tables`)."""
LOOKS: dict[str, dict[str, Any]] = {
    TRACED: {"color": DEST, "marker": "o", "label": "traced, by total weight"},
    ATTRIBUTION: {"color": SRC, "marker": "s", "linestyle": (0, (4.5, 2.2)), "label": "by attribution patching"},
    RANDOM: {"color": SOFT, "marker": "^", "linestyle": (0, (1, 1.5)), "label": "at random (mean and range of seeds)"},
}
TITLES = {FAITHFUL: "Kept alone: faithfulness", COMPLETE: "Removed: completeness (low is complete)"}
MEASURED = {"logit_difference": ("logit difference", "logits"), "log_probability": ("log-probability", "nats")}
PAIRS = (("traced", "path_patching"), ("attribution", "path_patching"))
CORRELATIONS = dict(zip(PAIRS, ("traced_path_patching", "attribution_path_patching"), strict=True))


def curves_picture(tables: Tables, path: str | Path) -> None:
    """Draw what share of the logit difference survives, over the number of edges kept and removed.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_curves(tables), path)


def agreement_picture(tables: Tables, manifest: Mapping[str, Any], path: str | Path) -> None:
    """Draw path patching against the traced weight and against attribution patching, one point an edge.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_agreement(tables, manifest), path)


def _curves(tables: Tables) -> Figure:
    if not tables["faithfulness"].num_rows:
        return nothing("No set of edges was measured.")
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    axes = figure.subplots(len(MEASURES), len(KINDS), sharex=True, squeeze=False)
    for row, measure, after in zip(axes, MEASURES, SUFFIXES, strict=True):
        table = tables[f"faithfulness{after}"]
        for ax, kind in zip(row, KINDS, strict=True):
            _curves_or_why(ax, table, kind)
            for level in (0, 1):
                ax.axhline(level, color=SOFT, linewidth=0.6, zorder=0)
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        row[0].set_ylabel(f"share of the {MEASURED[measure][0]}\n(0 no signal, 1 clean run)")
    for ax, below, kind in zip(axes[0], axes[-1], KINDS, strict=True):
        ax.set_title(TITLES[kind])
        below.set_xlabel("edges")
    handles = [Line2D([], [], markersize=3.5, linewidth=1.4, **look) for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _curves_or_why(ax: Axes, table: pa.Table, kind: str) -> None:
    """The curves of one kind, or in their place why there are none, which all sets of a measure share."""
    why = table["why"][0].as_py()
    if why is None:
        for name in LOOKS:
            _curve(ax, table, (kind, name))
    else:
        edges = table["edges"].to_numpy()
        # Nothing that is seen: the numbers of edges give the axis its reach.
        ax.plot(edges, np.zeros(len(edges)), linestyle="none")
        ax.text(0.5, 0.5, fill(why, 34), transform=ax.transAxes, ha="center", va="center", color=SOFT)


def _curve(ax: Axes, table: pa.Table, key: tuple[str, str]) -> None:
    given = zip(*(table[name].to_pylist() for name in ("kind", "order")), strict=True)
    rows = np.asarray([each == key for each in given])
    if not rows.any():
        return
    edges, value = (table[name].to_numpy(zero_copy_only=False)[rows] for name in ("edges", "value"))
    size, look = np.unique(edges), LOOKS[key[-1]]
    by_size = [value[edges == each] for each in size]
    ax.plot(size, [each.mean() for each in by_size], markersize=3.5, linewidth=1.4, **look)
    if key[-1] == RANDOM:
        low, high = ([end(each) for each in by_size] for end in (np.min, np.max))
        ax.fill_between(size, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _agreement(tables: Tables, manifest: Mapping[str, Any]) -> Figure:
    if not tables["agreement"].num_rows:
        return nothing("No edge was patched.")
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    axes = figure.subplots(len(MEASURES), len(PAIRS), squeeze=False)
    for row, measure, after in zip(axes, MEASURES, SUFFIXES, strict=True):
        rows = tables[f"agreement{after}"]
        ranks = (manifest["log_probability"] if after else manifest)["rank_correlations"]
        name, unit = MEASURED[measure]
        for ax, (x, y) in zip(row, PAIRS, strict=True):
            ax.axhline(0, color=SOFT, linewidth=0.6, zorder=0)
            ax.axvline(0, color=SOFT, linewidth=0.6, zorder=0)
            ax.scatter(rows[x].to_numpy(), rows[y].to_numpy(), s=14, color=DEST, alpha=0.6, linewidths=0)
            value = ranks[CORRELATIONS[x, y]]
            rank = "undefined" if value is None else f"{value:.2f}"
            label = "traced weight, per prompt (score)" if x == "traced" else f"attribution patching ({unit})"
            ax.set(title=f"Rank correlation {rank}, {rows.num_rows} edges", xlabel=label)
            ax.xaxis.set_major_locator(MaxNLocator(6))
        row[0].set_ylabel(f"path patching of the {name} ({unit})")
    return figure

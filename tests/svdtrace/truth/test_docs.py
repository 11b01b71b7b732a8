"""What docs/formats.md and docs/truth.md say of planted models."""

from __future__ import annotations

import re
from pathlib import Path

from svdtrace.truth.families import FAMILIES
from svdtrace.truth.planting import plant
from svdtrace.truth.tables import EDGES, POWER, SCORES

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_column_is_named():
    section = (
        (DOCS / "formats.md").read_text("utf-8").split("## What `plant` and `score-truth` write")[1].split("\n## ")[0]
    )
    named = set(re.findall(r"`([^`]+)`", section))
    columns = {*SCORES.names, *EDGES.names, *POWER.names}
    assert {name for name in columns if not name.endswith(("_heads", "_most")) or name == "angle_most"} <= named
    assert {"_heads", "_most"} <= named


def test_every_family_is_described_with_the_number_of_its_edges():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", (DOCS / "truth.md").read_text("utf-8"), re.MULTILINE))
    assert rows == {family: str(len(plant(family).truth.edges)) for family in FAMILIES}

"""What an atlas is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from svdtrace.atlas.tabulating import Pairs


@dataclass(frozen=True)
class Atlas:
    """The tables of `svdtrace.atlas.schemas` by name, those of single vectors aside, and the manifest.

    Args:
        strongest: the writers with the largest shares on each vector of each reader's query and key, as places among
            all heads; -1 where there are fewer.
        share: of these.
    """

    tables: dict[str, pa.Table]
    pairs: Pairs = field(repr=False)
    strongest: Int[np.ndarray, "read_side reader sv writer"] = field(repr=False)
    share: Float[np.ndarray, "read_side reader sv writer"] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)

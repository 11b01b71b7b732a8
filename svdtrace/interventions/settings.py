"""The settings of interventions: frozen dataclasses, checked when made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from svdtrace.config import SEED_MOST
from svdtrace.errors import SettingError

Where = Literal["global", "local", "both"]
Direction = Literal["ablate", "boost", "both"]
Method = Literal["paper", "joint", "exact"]
Control = Literal["none", "random", "norm"]
Replacement = Literal["zero", "mean", "resample"]
Reads = Literal["all", "side", "query", "key"]
Norm = Literal["held", "recomputed"]
LEAST = {"seeds": 1, "seed": 0}
# Each control has the seed of the one before and 1, which tables must hold.
MOST = {"seeds": 10_000, "seed": SEED_MOST - 10_000}
SILENT = ("attn_bias", "const")
"""Writers that write the same everywhere, and are not edited."""


@dataclass(frozen=True)
class EditSettings:
    """What is done to edges; all of `InterventionConfig` but its seed."""

    where: Where = "both"
    """Edit what the writer writes, which all later layers see (global), or what the one reader reads (local)."""
    direction: Direction = "both"
    """Take the signal away (ablate) or add it once more (boost)."""
    method: Method = "paper"
    """How the signal is cut out: paper, exact, or joint, which takes what edges share only once."""
    control: Control = "none"
    """Beside the signal: nothing, as many random singular vectors (random), or these scaled to its norm (norm)."""
    seeds: int = 1
    """How many random controls of each edge."""
    replacement: Replacement = "zero"
    """What takes the signal's place: nothing (zero), its mean over the prompts, or another prompt's (resample)."""
    reads: Reads = "all"
    """What a local edit reaches in the reader: query, key and value (all), the edge's own side, query or key alone."""
    norm: Norm = "held"
    """The reader's LayerNorm in a local edit: its scale held, or recomputed from the edited residual."""
    flow: bool = False
    """Let readers edited locally start from what reaches them, earlier edits included, so that serial paths show; by
    default from their clean input."""

    def __post_init__(self) -> None:
        """Check every field."""
        kinds = get_type_hints(type(self))
        for field in fields(self):
            kind, value = kinds[field.name], getattr(self, field.name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                raise SettingError(f'{field.name} is "{value}"; choose one of {", ".join(get_args(kind))}')
            least = LEAST.get(field.name)
            if least is not None and value < least:
                raise SettingError(f"{field.name} is {value}; give {least} or more")
            if least is not None and value > MOST[field.name]:
                raise SettingError(f"{field.name} is {value}; give at most {MOST[field.name]}")


@dataclass(frozen=True)
class InterventionConfig(EditSettings):
    """What decides every number of interventions (METHOD.md, section 10).

    Raises:
        SettingError: a value outside its range.
    """

    seed: int = 0
    """Seed of the first control, and of resampling."""

    @property
    def wheres(self) -> tuple[str, ...]:
        """The places of the edits asked for."""
        return ("global", "local") if self.where == "both" else (self.where,)

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions asked for."""
        return ("ablate", "boost") if self.direction == "both" else (self.direction,)

    @property
    def control_seeds(self) -> tuple[int, ...]:
        """The seeds of the controls; none without a control."""
        return () if self.control == "none" else tuple(range(self.seed, self.seed + self.seeds))

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, as `manifest.json` holds them."""
        return asdict(self)

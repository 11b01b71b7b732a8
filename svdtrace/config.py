"""The settings of a trace: one frozen dataclass, checked when made, one command-line option per field."""

from __future__ import annotations

import json
import math
import numbers
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from svdtrace.errors import SettingError
from svdtrace.surroundings.paths import path_of

Method = Literal["paper", "all", "exact", "relative"]
Select = Literal["cover", "until"]
Keys = Literal["summed", "own", "all"]
Writers = Literal["heads", "all"]
Sides = Literal["both", "dest", "src"]
Processing = Literal["folded", "raw"]
Precision = Literal["float32", "bfloat16", "float64"]


SEED_MOST = 2**31 - 1
"""What tables hold of a seed, and JAX tells apart."""
DYNAMIC = "dynamic"
ANSWER = "answer"
RELATIVE = "relative"


class Unsaid(str):
    """A value that nobody gave: it may become another when other settings change."""


_HEADS: Any = Unsaid("heads")


@dataclass(frozen=True)
class TraceConfig:
    """What decides every number of a trace; the sections are METHOD.md's.

    Raises:
        SettingError: a value outside its range.

    Example:
        >>> TraceConfig(threshold=0.4).to_dict()["threshold"]
        0.4
    """

    threshold: float | Literal["dynamic"] = 0.5
    """Attention (pattern) from which a head counts as firing, above 0 and at most 1 (section 3); dynamic: 2.5 times
    what each of the keys would get evenly (section 14.3)."""
    tau: float = 1.0
    """Share of the score that a slice of singular vectors must exceed, above 0 and at most 1 (section 4)."""
    coverage: float = 0.7
    """Share of the contributions that the edges of a firing must exceed, above 0 and at most 1 (section 6)."""
    method: Method = "exact"
    """How contributions are measured: exact (they sum to the score's slice), paper, or all (section 5); relative: on
    the attention probability, against the other keys (section 14)."""
    select: Select = "cover"
    """Under relative, which contributions are edges: those that cover most of the total, or the largest ones until the
    head would no longer fire without them (section 14.4)."""
    keys: Keys = "summed"
    """Under relative, what a writer is to the source side: all that it wrote at the keys, what it wrote at the source
    (own), or what it wrote at each key apart (all) (section 14.2)."""
    writers: Writers = _HEADS
    """Who may be the source of an edge: heads alone, or all (MLPs, embeddings, biases too), which is what relative has
    where nothing is said (section 5)."""
    roots: str = "all"
    """Where tracing starts: all, logit, probability, or firings LAYER.HEAD@DEST:SRC joined by commas (sections 7, 11,
    14.7)."""
    targets: str = ANSWER
    """Of roots probability, the tokens that the roots raise: texts of one token each (" Mary, John") or ids, joined by
    commas; top-p 0.9 or top-k 3, the likeliest; or answer, the prompt's own, else the top token (section 14.7)."""
    sides: Sides = "both"
    """Sides of the attention traced: destination (query), source (key), or both (section 6)."""
    skip_first: bool = True
    """Leave out attention to the first token, where heads rest (section 3)."""
    score_min: float = 0.0
    """Smallest score, before the softmax, of a firing; 0 or more (section 3)."""
    processing: Processing = "folded"
    """Weights with LayerNorm and value biases folded in, as the paper has them, or raw (section 1)."""
    batch_size: int | Literal["auto"] = "auto"
    """Prompts per batch; auto goes by their lengths and the kind of device."""
    dtype: Precision = "float32"
    """Floating-point type of the forward pass and of the trace; bfloat16 rounds the weights alone, and the result says
    which firings and edges that loses and gains."""

    def __post_init__(self) -> None:
        """Check every field, and make whole numbers given for real ones into floats."""
        for name, kind in _KINDS.items():
            object.__setattr__(self, name, _checked(name, kind, getattr(self, name)))
        if isinstance(self.writers, Unsaid):
            object.__setattr__(self, "writers", Unsaid("all" if self.method == RELATIVE else "heads"))
        if self.roots != "probability" and self.targets != ANSWER:
            raise SettingError(f"targets are {_shown(self.targets)}, which roots probability alone has; add it")
        for name, default in (("select", "cover"), ("keys", "summed")):
            if self.method != RELATIVE and getattr(self, name) != default:
                raise SettingError(f'{name} is "{getattr(self, name)}", which method relative alone has; add it')

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, as `manifest.json` holds them."""
        return asdict(self) | {"writers": str(self.writers)}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> TraceConfig:
        """The settings named, the others at their defaults.

        Raises:
            SettingError: an unknown name, or a value outside its range.
        """
        for name in settings:
            if name not in _KINDS:
                near = get_close_matches(str(name), _KINDS, n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(_KINDS)}"
                raise SettingError(f'unknown setting "{name}"; {hint}')
        return cls(**settings)

    @classmethod
    def from_file(cls, path: str | Path) -> TraceConfig:
        """Read settings from a JSON object, or from the `config` of a trace's `manifest.json`.

        Raises:
            SettingError: no such file, no JSON object, or settings that cannot be used.
        """
        try:
            content = json.loads(path_of(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingError(
                f"{path}: no such file; give a JSON file of settings or a trace's manifest.json"
            ) from None
        except OSError as error:
            raise SettingError(f"{path}: cannot be read ({error.strerror}); give a JSON file of settings") from None
        except (ValueError, RecursionError) as error:
            raise SettingError(f"{path}: not valid JSON ({error}); give one object of settings") from None
        if isinstance(content, dict) and isinstance(content.get("config"), dict):
            content = content["config"]
        if not isinstance(content, dict):
            raise SettingError(f'{path}: expected one JSON object of settings, such as {{"threshold": 0.5}}')
        try:
            return cls.from_dict(content)
        except SettingError as error:
            raise SettingError(f"{path}: {error}") from None


_KINDS: dict[str, Any] = {field.name: get_type_hints(TraceConfig)[field.name] for field in fields(TraceConfig)}
_OPEN_UNIT = {"threshold", "tau", "coverage"}


def check_seed(seed: int, name: str = "seed") -> None:
    """Hold a seed against its range.

    Raises:
        SettingError: it is below 0 or above `SEED_MOST`.
    """
    if not 0 <= seed <= SEED_MOST:
        raise SettingError(f"{name} is {seed}; give {'0 or more' if seed < 0 else f'at most {SEED_MOST}'}")


def check_linear(config: TraceConfig, what: str) -> None:
    """Refuse settings under which a writer is not one number at a firing, or edges are not section 6's.

    Args:
        what: needs both.

    Raises:
        SettingError: `keys` all, `select` until.
    """
    if config.keys == "all":
        raise SettingError(
            f'{what} takes writers with one value at a firing each, and under keys "all" one has as many as there are '
            "keys; choose summed or own"
        )
    if config.select == "until":
        raise SettingError(
            f'{what} takes the edges that cover most of the total (METHOD.md, section 6), and select "until" has '
            "others; choose cover"
        )


def _checked(name: str, kind: Any, value: Any) -> Any:
    """`value` as the field `name` of type `kind` holds it."""
    if name == "threshold":
        return DYNAMIC if value == DYNAMIC else _checked_number(name, value)
    if kind is float:
        return _checked_number(name, value)
    if kind is bool and not isinstance(value, bool):
        raise SettingError(f"{name} is {_shown(value)}; give true or false")
    if kind is str and (not isinstance(value, str) or not value.strip()):
        ways = "all, logit, probability, or firings such as 9.6@end:IO" if name == "roots" else "tokens, or answer"
        raise SettingError(f"{name} is {_shown(value)}; give {ways}")
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise SettingError(f"{name} is {_shown(value)}; choose one of {', '.join(get_args(kind))}")
    if name == "batch_size" and value != "auto" and not _is_count(value):
        raise SettingError(f"batch_size is {_shown(value)}; give a whole number of prompts, 1 or more, or auto")
    return value


def _checked_number(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # JSON has whole numbers that no float holds
        number = math.inf
    if not math.isfinite(number):
        or_word = f", or {DYNAMIC}" if name == "threshold" else ""
        raise SettingError(f"{name} is {_shown(value)}; give a number{or_word}")
    if name in _OPEN_UNIT and not 0 < number <= 1:
        raise SettingError(f"{name} is {value}; it must be above 0 and at most 1")
    if name == "score_min" and number < 0:
        raise SettingError(f"score_min is {value}; it must be 0 or more")
    return number


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)

"""`weights-tools verify`: whether a checkpoint is what it should be, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from weights_tools.cli.options import Flat, Source, Voice, aligned

if TYPE_CHECKING:
    from weights_tools.checkpoints.comparing import Compared
    from weights_tools.checkpoints.opened import Opened

_MOST = 40


@dataclass(frozen=True)
class Options:
    """Hold a checkpoint against another, or against hashes, tensor by tensor; exit status 1 where they differ.

    Files with other headers, names, shards or dtypes are the same if their numbers are; what differs is listed, with by
    how much. Without --against the hash of every tensor is printed, which is a list to compare with later.

    Are these the same weights? `weights-tools verify mymodel --against copy`

    Are they still last year's? `weights-tools verify mymodel > SUMS; weights-tools verify mymodel --against SUMS`
    """

    path: Source
    """Hugging Face GPT-2 folder, a .safetensors file by itself, or a hub id."""
    against: Annotated[str | None, tyro.conf.arg(metavar="SHA256SUMS|PATH", help_behavior_hint="")] = None
    """List of lines HASH NAME, names being files' (as sha256sum writes) or tensors'; or a checkpoint like PATH."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Compare, print; 0 where all is the same, 1 where something differs."""
    from weights_tools.checkpoints.comparing import AS_GOOD
    from weights_tools.checkpoints.opened import opened

    here = opened(options.path)
    if options.against is None:
        return _hashes(here, options.voice)
    found = _compared(here, options.against, options.voice)
    wanting = [each for each in found if each.verdict not in AS_GOOD]
    content = {
        "path": options.path,
        "against": options.against,
        "same": not wanting,
        "compared": [asdict(each) for each in found],
    }
    options.voice.show(content, _lines(options, found, wanting))
    return 1 if wanting else 0


def _hashes(here: Opened, voice: Voice) -> int:
    from weights_tools.checkpoints.tensors import tensor_hash

    tensors = here.tensors
    hashes: dict[str, str] = {}
    with voice.progress("hashing", len(tensors)) as advance:
        for name, tensor in tensors.items():
            hashes[name] = tensor_hash(tensor)
            if advance is not None:
                advance(len(hashes), len(tensors))
    voice.show({"path": here.source, "sha256": hashes}, [f"{digest}  {name}" for name, digest in hashes.items()])
    return 0


def _compared(here: Opened, against: str, voice: Voice) -> list[Compared]:
    from weights_tools.checkpoints.comparing import against_sums, compared, read_sums
    from weights_tools.checkpoints.opened import ENDING, opened

    path = Path(against).expanduser()
    if path.is_file() and path.suffix != ENDING:
        sums = read_sums(path)
        with voice.progress("hashing", len(sums)) as advance:
            return against_sums(here, sums, advance)
    there = opened(against)
    with voice.progress("comparing tensors") as advance:
        return compared(here, there, advance)


def _lines(options: Options, found: Sequence[Compared], wanting: Sequence[Compared]) -> list[str]:
    kinds = {
        verdict: sum(each.verdict == verdict for each in found)
        for verdict in dict.fromkeys(each.verdict for each in found)
    }
    counts = ", ".join(f"{verdict} {many}" for verdict, many in kinds.items())
    lines = [f"{options.path} against {options.against}: {counts}"]
    if not wanting:
        return lines
    rows = [
        (
            *(each.name, each.verdict, each.here or "—", each.there or "—"),
            "—" if each.differing is None else f"{each.differing:,} of {each.n_values:,}",
            *("—" if number is None else f"{number:.3g}" for number in (each.largest, each.relative)),
        )
        for each in wanting[:_MOST]
    ]
    columns = ("name", "verdict", "here", "there", "values that differ", "largest", "relative")
    more = [f"… and {len(wanting) - _MOST} more; --json lists all"] if len(wanting) > _MOST else []
    return [*lines, "", *aligned(columns, rows, left=4), *more]

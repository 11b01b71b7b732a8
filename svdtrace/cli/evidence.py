"""A trace with what was asked of its edges: do they beat chance, do they stay under other settings?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from svdtrace.cli.terminal import counted, progress

if TYPE_CHECKING:
    from gpt2jax.params import Model
    from svdtrace.cli.options import EvidenceChoice, Voice
    from svdtrace.config import TraceConfig
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.tracing.trace import Trace


def examined(
    model: Model, prompts: Sequence[Prompt], settings: TraceConfig, asked: EvidenceChoice, seed: int, voice: Voice
) -> Trace:
    """The trace that the options ask for.

    Raises:
        SettingError: an option that cannot be used.
    """
    from svdtrace.tracing.trace import trace

    keep, chance = None, None
    if any(each is not None for each in (asked.fdr, asked.nulls, asked.blocks)):
        from svdtrace.nulls.chance import chance as against_chance

        further: dict[str, Any] = {"nulls": asked.nulls, "blocks": asked.blocks, "seed": seed}
        further |= {} if asked.fdr is None else {"fdr": asked.fdr}
        with progress("asking what chance would give", voice, len(prompts)) as advance:
            chance = against_chance(model, prompts, settings, progress=advance, **further)
        keep = None if asked.fdr is None else chance.survivors(asked.fdr)
    with progress("tracing prompts", voice, len(prompts)) as advance:
        found = trace(model, prompts, settings, keep=keep, progress=advance)
    stages = {}
    if chance is not None:
        found = chance.annotate(found)
        stages["nulls"] = chance.summary["seconds"]
    if asked.stability:
        from svdtrace.nulls.stability import stability

        with progress("tracing with other settings", voice) as advance:
            found = stability(model, prompts, found, seed=seed, progress=advance)
        stages["stability"] = found.manifest["stability"]["seconds"]
    seconds = found.manifest["seconds"]
    whole = {**seconds, **stages, "total": round(seconds["total"] + sum(stages.values()), 3)}
    return replace(found, manifest={**found.manifest, "seconds": whole})


def evidence(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the closing table says of chance and stability; empty where neither was asked for."""
    found: dict[str, Any] = {}
    if "chance" in manifest:
        found["chance"] = {name: value for name, value in manifest["chance"].items() if name != "bases"}
        kept = ("mean_slice", "random_mean_slice", "random_lowest", "random_highest", "p")
        found["chance"]["bases"] = {name: manifest["chance"]["bases"].get(name) for name in kept}
    if "stability" in manifest:
        found["stability"] = manifest["stability"]
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The same in sentences."""
    said = []
    if "chance" in found:
        said += _chance_lines(found["chance"])
    if "stability" in found and found["stability"]["mean"] is not None:
        its = found["stability"]
        many = len(its["reruns"])
        said.append(
            f"stability: an edge is in {its['mean']:.0%} of {many} reruns on average; {its['in_all']} are in all"
        )
    return said


def _more(chance: dict[str, Any]) -> str:
    """How many nulls would tell, and how long they take, where some edge beats all so far."""
    many = chance["nulls_needed"]
    if many is None:
        return "give more with --nulls"
    minutes = chance["seconds"] * many / chance["nulls"] / 60
    lasting = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
    return f"give --nulls {many} to see whether those that do survive ({lasting})"


def _told(kind: str, counts: dict[str, int]) -> str:
    untested = f" ({counts['untested']:,} untested)" if counts["untested"] else ""
    return f"{kind} {counts['explained']:,}{untested}"


def _chance_lines(chance: dict[str, Any]) -> list[str]:
    if not chance["edges"]:
        return ["chance: there is no connection to hold against it"]
    explained = ", ".join(_told(kind, each) for kind, each in chance["by_null"].items())
    near = chance.get("blocks")
    claims = "" if near is None else f" (claims by blocks of vectors with σ within {100 * near:.3g} % of a neighbour's)"
    said = [
        f"chance{claims}: {chance['surviving']:,} of {chance['edges']:,} connections that some firing gives a positive "
        f"weight, whether it leads to a root or not, survive a false-discovery rate of {chance['fdr']:g} "
        f"({chance['nulls']} nulls of each kind, {chance['candidates']:,} candidates); not told from one null alone: "
        f"{explained}"
    ]
    if not chance["surviving"]:
        could = "no edge could survive" if chance["smallest_q"] > chance["fdr"] else "none survives"
        said.append(
            f"{could} {chance['nulls']} nulls: {chance['beat_all']} beat them all, and it takes {chance['needed']} to "
            f"tell from chance; {_more(chance)}"
        )
    if chance["prompts_without_partner"]:
        alone = chance["prompts_without_partner"]
        said.append(
            f"{counted(alone, 'prompt')} {'has' if alone == 1 else 'have'} no other of the same length to be shuffled "
            "with"
        )
    bases = chance["bases"]
    if bases["mean_slice"] is not None:
        said.append(
            f"mean |S| {bases['mean_slice']:.2f}, in random bases {bases['random_mean_slice']:.2f} "
            f"({bases['random_lowest']:.2f} to {bases['random_highest']:.2f}), p {bases['p']:.2g}"
        )
    return said

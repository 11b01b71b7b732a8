"""Interventions on edges, one prompt at a time in float64, by the definitions of METHOD.md, section 10.

Edges are dicts with `writer` (its name), `layer`, `head`, `dest`, `src` (roles or positions as text) and `side`. Where
section 10 leaves room: several edges' x edits of one reader at one token sum before the norm ratio is taken, and a
place counts once however many edges edit it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .circuit import get, last_traced
from .heads import firings
from .model import ACTIVATIONS, Acts, Config, attend, attn_scale, forward, normalize
from .signals import Firing, Writer, written
from .tracing import DEFAULTS, Model, logit_difference, slice_of

Edge = Mapping[str, Any]
Place = tuple[Any, ...]
Changes = list[tuple[int, int, np.ndarray]]


def token_of(prompt: Any, end: str) -> int | None:
    """Where a role or a position stands in a prompt; a role wins."""
    roles = get(prompt, "roles") or {}
    if end in roles:
        return roles[end]
    return int(end) if end.isdecimal() and int(end) < len(get(prompt, "tokens")) else None


def firing_of(prompt: Any, edge: Edge) -> Firing | None:
    """The pair of tokens that an edge names in a prompt, if there is one."""
    dest, src = token_of(prompt, edge["dest"]), token_of(prompt, edge["src"])
    if dest is None or src is None or src > dest:
        return None
    return edge["layer"], edge["head"], dest, src


def writer_of(name: str) -> Writer:
    """A writer by its name."""
    if name in ("embed", "pos"):
        return Writer(name, name)
    kind, _, layer = name.rpartition(".")
    if kind == "mlp":
        return Writer(name, "mlp", int(layer))
    return Writer(name, "head", int(kind), int(layer))


def basis(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what columns span, dependent ones dropped."""
    left, sigma, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sigma > max(columns.shape) * np.finfo(np.float32).eps * sigma.max(initial=0.0)]


def present(model: Model, acts: Acts, prompt: Any, edges: Sequence[Edge], settings: Mapping[str, Any]) -> list[Any]:
    """For each edge its firing and S, or None where the reader does not fire, or fires by nothing."""
    settings = DEFAULTS | dict(settings)
    firing = set(firings(acts, settings, last_traced(prompt), first_layer=0))
    found: list[Any] = []
    for edge in edges:
        where = firing_of(prompt, edge)
        members = [] if where is None or where not in firing else slice_of(model, acts, where, settings).members
        # A total of 0 has an empty slice, and such a firing no edges.
        found.append((where, list(members)) if len(members) else None)
    return found


def delta(model: Model, method: str, parts: Sequence[tuple[Firing, list[int], str]], y: np.ndarray) -> np.ndarray:
    """δ of one edge, or of a group of edges that share y (`joint`): parts are firing, vectors and side."""
    columns = []
    for firing, members, side in parts:
        vectors = model.svd.U if side == "dest" else model.svd.V
        columns.append(vectors[firing[0], firing[1]][:, members])
    stacked = np.concatenate(columns, axis=1)
    if method == "paper":
        moved = (np.append(y, 1.0) @ stacked @ stacked.T)[:-1]
        return moved - moved.mean()
    onto = basis(stacked[:-1])
    return (y @ onto) @ onto.T


def run_edited(
    model: Model,
    prompt: Any,
    clean: Acts,
    writes: Mapping[Place, np.ndarray],
    reads: Mapping[tuple[int, int], Mapping[str, Any]],
    norm: str = "held",
) -> Acts:
    """The forward pass with edits.

    Args:
        writes: what is added at ("attn", layer, token), ("mlp", layer, token), ("embed", token).
        reads: by (layer, head) the changes of the residual by (which of "QKV", token) (`edits`), and whether the reader
            starts from what it read in the clean run (`held`).
        norm: whether LayerNorm's scale is the clean one, or computed from the changed residual.
    """
    params, config = model.params, model.config
    tokens = get(prompt, "tokens")

    def added(kind: Place, value: np.ndarray) -> np.ndarray:
        value = value.copy()
        for token in range(len(value)):
            value[token] += writes.get((*kind, token), 0.0)
        return value

    resid = added(("embed",), params["W_E"][list(tokens)] + params["W_pos"][: len(tokens)])
    acts: dict[str, Any] = {name: [] for name in ("attn_out", "mlp_out", "scores", "pattern")}
    acts["first"] = resid
    for layer in range(config["n_layers"]):
        _, x = normalize(params, config, "ln1", layer, resid)
        attn_out = np.tile(params["b_O"][layer], (len(tokens), 1))
        scores, patterns = [], []
        for head in range(config["n_heads"]):
            read = reads.get((layer, head))
            entering = (
                dict.fromkeys("QKV", x) if read is None else entering_of(config, clean, layer, x, resid, read, norm)
            )
            q, k, v = (entering[n] @ params[f"W_{n}"][layer, head] + params[f"b_{n}"][layer, head] for n in "QKV")
            score, pattern, z = attend(q, k, v, attn_scale(config, layer))
            scores.append(score)
            patterns.append(pattern)
            attn_out = attn_out + z @ params["W_O"][layer, head]
        attn_out = added(("attn", layer), attn_out)
        resid = resid + attn_out
        _, x = normalize(params, config, "ln2", layer, resid)
        hidden = ACTIVATIONS[config["activation"]](x @ params["W_in"][layer] + params["b_in"][layer])
        mlp_out = added(("mlp", layer), hidden @ params["W_out"][layer] + params["b_out"][layer])
        resid = resid + mlp_out
        for name, value in zip(
            ("attn_out", "mlp_out", "scores", "pattern"), (attn_out, mlp_out, scores, patterns), strict=True
        ):
            acts[name].append(np.asarray(value))
    _, x = normalize(params, config, "ln_final", None, resid)
    acts["logits"] = x @ params["W_U"] + params["b_U"]
    return acts


def entering_of(
    config: Config,
    clean: Acts,
    layer: int,
    x: np.ndarray,
    resid: np.ndarray,
    read: Mapping[str, Any],
    norm: str,
) -> dict[str, np.ndarray]:
    """What a reader's queries, keys and values are made of, each with its edits."""
    entering = {}
    begun, r = (clean["ln1_x"][layer], clean["resid_pre"][layer]) if read["held"] else (x, resid)
    for part in "QKV":
        entering[part] = begun.copy()
        for (parts, token), change in read["edits"].items():
            if part in parts:
                scale = clean["ln1_scale"][layer, token]
                entering[part][token] = edited_x(config, begun[token], r[token], scale, change, norm)
    return entering


def edited_x(
    config: Config, x: np.ndarray, resid: np.ndarray, scale: float, change: np.ndarray, norm: str
) -> np.ndarray:
    """What a head reads at one token when its residual is changed; `scale` is the clean one."""
    if norm == "held":
        return x + change / scale
    changed = resid + change
    return changed / np.sqrt(changed.var() + config["eps"])


def site_of(edge: Edge, token: int, where: str, parts: str = "QKV") -> Place:
    """What an edge's edit changes, and where."""
    if where == "local":
        return edge["layer"], edge["head"], reached(edge, parts), token
    writer = writer_of(edge["writer"])
    if writer.kind in ("embed", "pos"):
        return "embed", token
    return "attn" if writer.kind == "head" else "mlp", writer.layer, token


def reached(edge: Edge, parts: str) -> str:
    """Which of "QKV" an edge's local edit reaches; `side` stands for its own."""
    return ("Q" if edge["side"] == "dest" else "K") if parts == "side" else parts


def changes(
    model: Model,
    acts: Acts,
    edges: Sequence[Edge],
    found: Sequence[Any],
    where: str,
    method: str,
    control: str = "none",
    drawn: Sequence[list[int]] | None = None,
    replaced: Sequence[np.ndarray] | None = None,
    parts: str = "QKV",
) -> Changes:
    """(edge, token, δ) for every edge present, or under `joint` for the first of every group.

    Args:
        drawn: for controls, the vectors that take the place of each edge's S.
        replaced: what stands in for each writer's output, for mean- and resample-ablation.
    """
    groups: dict[Any, list[int]] = {}
    for number, (edge, each) in enumerate(zip(edges, found, strict=True)):
        if each is None:
            continue
        token = each[0][2] if edge["side"] == "dest" else each[0][3]
        key: Any = number
        if method == "joint":
            key = (edge["writer"], token)
            if where == "local":
                key = (*key, edge["layer"], edge["head"], reached(edge, parts))
        groups.setdefault(key, []).append(number)
    result = []
    for members in groups.values():
        edge, each = edges[members[0]], found[members[0]]
        token = each[0][2] if edge["side"] == "dest" else each[0][3]
        y = written(model.params, acts, writer_of(edge["writer"]), token)
        own = [(found[n][0], found[n][1], edges[n]["side"]) for n in members]
        if drawn is not None:
            other = [(found[n][0], drawn[n], edges[n]["side"]) for n in members]
        else:
            other = own

        def cut(parts: Any, y: np.ndarray = y, members: list[int] = members) -> np.ndarray:
            full = delta(model, method, parts, y)
            return full if replaced is None else full - delta(model, method, parts, replaced[members[0]])

        change = cut(other)
        if control == "norm":
            size = np.linalg.norm(change)
            change = change * (np.linalg.norm(cut(own)) / size if size > 0 else 0.0)
        result.append((members[0], token, change))
    return result


def matched(made: Changes, own: Changes, edges: Sequence[Edge], where: str, parts: str) -> Changes:
    """Controls scaled so that what they add up to at a place has the norm of what the signals add up to there."""

    def totals(each: Changes) -> dict[Any, np.ndarray]:
        sums: dict[Any, np.ndarray] = {}
        for number, token, change in each:
            key = site_of(edges[number], token, where, parts)
            sums[key] = sums.get(key, 0.0) + change
        return sums

    sums, wanted = totals(made), totals(own)
    size = {key: np.linalg.norm(total) for key, total in sums.items()}
    factor = {key: np.linalg.norm(wanted[key]) / size[key] if size[key] > 0 else 0.0 for key in sums}
    return [
        (number, token, change * factor[site_of(edges[number], token, where, parts)]) for number, token, change in made
    ]


def intervene(
    model: Model,
    prompt: Any,
    edges: Sequence[Edge],
    where: str,
    direction: str,
    method: str,
    *,
    control: str = "none",
    drawn: Sequence[list[int]] | None = None,
    replaced: Sequence[np.ndarray] | None = None,
    settings: Mapping[str, Any] | None = None,
    parts: str = "QKV",
    norm: str = "held",
    flow: bool = False,
) -> dict[str, Any]:
    """One row of `interventions.parquet` but its keys, with `kl`. `parts` may be "side": the edge's own."""
    clean = forward(model.params, model.config, get(prompt, "tokens"))
    found = present(model, clean, prompt, edges, settings or {})
    made = changes(model, clean, edges, found, where, method, control, drawn, replaced, parts)
    if control == "norm":
        own = changes(model, clean, edges, found, where, method, "none", None, replaced, parts)
        made = matched(made, own, edges, where, parts)
    clean_read = where == "local" and not flow
    writes, reads = edits(made, edges, where, {"ablate": -1.0, "boost": 1.0}[direction], parts, held=clean_read)
    if clean_read and method == "paper":
        for edge in edges:
            reads.setdefault((edge["layer"], edge["head"]), {"edits": {}, "held": True})
    edited = run_edited(model, prompt, clean, writes, reads, norm)
    pairs = {(edge["layer"], edge["head"], edge["dest"], edge["src"]) for edge in edges}
    pair = firing_of(prompt, edges[0]) if len(pairs) == 1 else None
    log_before, log_after = (
        acts["logits"][last_traced(prompt)] - np.log(np.sum(np.exp(acts["logits"][last_traced(prompt)])))
        for acts in (clean, edited)
    )
    row: dict[str, Any] = {
        "edited": any(each is not None for each in found),
        "logit_difference_before": logit_difference(clean, prompt),
        "logit_difference_after": logit_difference(edited, prompt),
        "kl": float(np.sum(np.exp(log_before) * (log_before - log_after))),
    }
    for name, key in (("score", "scores"), ("pattern", "pattern")):
        for when, acts in (("before", clean), ("after", edited)):
            row[f"{name}_{when}"] = None if pair is None else float(acts[key][pair[0]][pair[1:]])
    changed = changed_vectors(model, clean, edited, writes, reads, norm)
    ratios = [np.linalg.norm(after) / np.linalg.norm(before) for before, after in changed]
    cosines = [after @ before / np.linalg.norm(after) / np.linalg.norm(before) for before, after in changed]
    row["norm_ratio"] = float(np.mean(ratios)) if ratios else 1.0
    row["cosine"] = float(np.mean(cosines)) if cosines else 1.0
    return row


def edits(
    made: Changes, edges: Sequence[Edge], where: str, sign: float, parts: str, held: bool
) -> tuple[dict[Place, np.ndarray], dict[tuple[int, int], dict[str, Any]]]:
    """What is added where it is written, and what is changed where it is read: `run_edited`'s arguments."""
    writes: dict[Place, np.ndarray] = {}
    reads: dict[tuple[int, int], dict[str, Any]] = {}
    for number, token, change in made:
        edge = edges[number]
        if where == "global":
            site = site_of(edge, token, where)
            writes[site] = writes.get(site, 0.0) + sign * change
            continue
        read = reads.setdefault((edge["layer"], edge["head"]), {"edits": {}, "held": held})
        key = reached(edge, parts), token
        read["edits"][key] = read["edits"].get(key, 0.0) + sign * change
    return writes, reads


def changed_vectors(
    model: Model,
    clean: Acts,
    edited: Acts,
    writes: Mapping[Place, np.ndarray],
    reads: Mapping[tuple[int, int], Mapping[str, Any]],
    norm: str,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every vector that an edit changes, before and after: what is written, or what LayerNorm gives a reader."""
    found = [(_written_at(clean, site, "clean"), _written_at(edited, site, "edited")) for site in writes]
    for (layer, _), read in reads.items():
        for (_, token), change in read["edits"].items():
            x, resid = clean["ln1_x"][layer, token], clean["resid_pre"][layer, token]
            found.append((x, edited_x(model.config, x, resid, clean["ln1_scale"][layer, token], change, norm)))
    return found


def _written_at(acts: Acts, site: Place, run: str) -> np.ndarray:
    if site[0] == "embed":
        return (acts["embed"] + acts["pos"])[site[1]] if run == "clean" else acts["first"][site[1]]
    return acts[f"{site[0]}_out"][site[1]][site[2]]

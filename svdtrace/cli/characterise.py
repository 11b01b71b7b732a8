"""`svdtrace characterise`: what every head does on prompts, and what slices show of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Folder, Tracing

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.characterisation import Characterisation
    from svdtrace.prompts import Prompt

STRONGEST = 10


@dataclass(frozen=True)
class Options(Tracing):
    """Say what every head does on prompts, beside what it does on ordinary text; write tables and pictures.

    How slices differ between a task and ordinary text: `svdtrace characterise --prompts ioi:64 --contrast ordinary:64`

    What made one head fire: `svdtrace characterise --prompts ioi:64 --firing '2.1@S2:S1'`

    On your model and a book: `svdtrace characterise --model FOLDER --prompts FILE --contrast text:book.txt:64`
    """

    contrast: Annotated[str | None, tyro.conf.arg(metavar="SOURCE", help_behavior_hint="")] = None
    """A second data set, given as --prompts is, to hold the first against."""
    firing: Annotated[str | None, tyro.conf.arg(metavar="SPEC", help_behavior_hint="")] = None
    """The firing that is shown whole, LAYER.HEAD@DEST:SRC; by default one that stands for many."""
    names: Annotated[str | None, tyro.conf.arg(metavar="ROLES|FILE", help_behavior_hint="")] = None
    """Tokens told apart from all others: those at these roles, or a file with a token's text (its space before it) or
    id on each line; by default names."""
    most_pairs: int = 50_000_000
    """Pairs at which a head does not fire that are looked at, over all heads; a seeded sample where there are more."""
    out: Folder = Path("characterise")
    """Folder to write: new, empty, or an earlier result, which is replaced."""


def run(options: Options) -> int:
    """Characterise and write; print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace import prompts as sources
    from svdtrace.characterisation import characterise
    from svdtrace.characterisation.characterising import CONTRAST, PROMPTS
    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.errors import OptionError
    from svdtrace.output.seconds import count_seconds

    if options.most_pairs < 0:
        raise OptionError(f"--most-pairs is {options.most_pairs}; give 0 or more")
    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    contrast = None
    if options.contrast is not None:
        choice = options.prompts
        given = {"config": model.config, "bos": choice.bos, "seed": choice.seed}
        contrast = sources.read(options.contrast, model.tokenizer, **given)
    names = _names(options.names, prompts, model)
    with progress("characterising", options.voice) as advance:
        found = characterise(
            model,
            prompts,
            contrast,
            options.settings,
            firing=options.firing,
            names=names,
            most_pairs=options.most_pairs,
            seed=options.prompts.seed,
            progress=advance,
        )
    found = _at_places(found, {PROMPTS: prompts} | ({} if contrast is None else {CONTRAST: contrast}))
    found.save(options.out)
    seconds = count_seconds(options.out, began)
    asked = {} if options.firing is None else {"firing": answer(found.tables["firing_products"].to_pylist())}
    content = {"command": "characterise", "out": str(options.out), **asked, **summary(found), "seconds": seconds}
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        show(terminal, content)
        picture = "heads" if options.firing is None else "firing_products"
        terminal.say(f"Written to {options.out}; look at {options.out / f'{picture}.png'}")
    return 0


def _at_places(found: Characterisation, given: dict[str, list[Prompt]]) -> Characterisation:
    """The characterisation with the prompts of each data set numbered as their lines are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from svdtrace.characterisation.characterising import PROMPTS
    from svdtrace.cli.loading import passed_over, places_of
    from svdtrace.cli.places import at_places, named_at_places, said_at_places

    if not any(map(passed_over, given.values())):
        return found
    places = {name: places_of(prompts) for name, prompts in given.items()}
    alone = {name: table for name, table in found.tables.items() if "data_set" not in table.column_names}
    both = found.tables["vectors_by_prompt"]
    parts = [at_places({"": both.filter(pc.field("data_set") == name)}, at)[""] for name, at in places.items()]
    tables = found.tables | at_places(alone, places[PROMPTS]) | {"vectors_by_prompt": pa.concat_tables(parts)}
    said = said_at_places(found.manifest, places[PROMPTS], {"rejected": passed_over(given[PROMPTS])})
    said["data_sets"] = {name: named_at_places(each, places[name]) for name, each in said["data_sets"].items()}
    return replace(found, tables=tables, manifest=said)


def _names(given: str | None, prompts: list[Prompt], model: gpt2jax.Model) -> frozenset[int] | None:
    """The tokens that `--names` means; None without it.

    Raises:
        OptionError: a line of the file that is no single token.
    """
    from svdtrace.characterisation.task_tokens import class_tokens
    from svdtrace.errors import OptionError
    from svdtrace.prompts.values import whole_number
    from svdtrace.surroundings.paths import path_of

    if given is None:
        return None
    path = path_of(given)
    if not path.is_file():
        asked = tuple(role.strip() for role in given.split(","))
        known = {role for prompt in prompts for role in prompt.roles}
        for role in asked:
            if role not in known:
                have = f"they have {', '.join(sorted(known))}" if known else "they have no roles"
                raise OptionError(f'--names {given}: no such file, and no prompt has a role "{role}"; {have}')
        return class_tokens(prompts, asked)
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{given}: cannot be read ({error}); give a UTF-8 text with a token on each line") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        token = whole_number(line.strip())
        ids = [] if token is None else [token]
        if not ids and model.tokenizer is not None:
            ids = model.tokenizer.encode(line)
        if len(ids) != 1 or not 0 <= ids[0] < model.config.d_vocab:
            raise OptionError(f'{given} line {number}: "{line}" is not one token of the model; give its text or its id')
        found += ids
    return frozenset(found)


def answer(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One firing's slice and what its products sum to, before the score's scale (METHOD.md, section 4)."""
    first = rows[0]
    names = ("k", "product", "running_sum")
    return {
        **{name: first[name] for name in ("prompt", "layer", "head", "dest", "src", "total")},
        "products": len(rows),
        "slice": [{name: row[name] for name in names} for row in rows if row["member"]],
    }


def summary(found: Characterisation) -> dict[str, Any]:
    """What the closing table says, as plain values."""
    rows = sorted(found.tables["heads"].to_pylist(), key=lambda row: -row["firings"])
    most = [row for row in rows if row["data_set"] == "prompts" and row["firings"]][:STRONGEST]
    beside = {(row["layer"], row["head"]): row for row in rows if row["data_set"] == "contrast"}
    heads = [
        {
            "head": f"{row['layer']}.{row['head']}",
            **{name: row[name] for name in ("firings", "mean_size", "idle_mean_size", "used", "auc_dest", "auc_src")},
            **(
                {f"contrast_{name}": beside[row["layer"], row["head"]][name] for name in ("firings", "mean_size")}
                if beside
                else {}
            ),
        }
        for row in most
    ]
    tau = [row for row in found.tables["tau"].to_pylist() if row["layer"] is None]
    return {
        "config": found.manifest["config"],
        "data_sets": found.manifest["data_sets"],
        "heads": heads,
        "tau": [{name: row[name] for name in row if name not in ("layer", "head")} for row in tau],
        "filtering": [
            {name: row[name] for name in row if name not in ("layer", "head")}
            for row in found.tables["filtering"].to_pylist()
            if row["layer"] is None
        ],
        "signals": found.tables["signals"].slice(0, STRONGEST).to_pylist(),
        "seconds": found.manifest["seconds"],
    }


def show(console: Any, content: dict[str, Any]) -> None:
    """Print what `summary` says."""
    from svdtrace.cli.terminal import table
    from svdtrace.output.seconds import spent
    from svdtrace.results.emptiness import advice

    if "firing" in content:
        _show_firing(console, content["firing"])
    sets = content["data_sets"]
    names = ("data set", "prompts", "firings", "mean |S|", "other pairs", "their mean |S|")
    keys = ("prompts", "firings", "mean_size", "idle_pairs", "idle_mean_size")
    rows = [(name, *(_shown(facts[key]) for key in keys)) for name, facts in sets.items()]
    console.print(table("Slices where heads fire and where they do not", names, rows, left=("data set",)))
    columns = [
        ("head", "head"),
        ("firings", "firings"),
        ("mean |S|", "mean_size"),
        ("not firing", "idle_mean_size"),
        ("names first, dest", "auc_dest"),
        ("names first, src", "auc_src"),
    ]
    if "contrast" in sets:
        columns += [("firings, contrast", "contrast_firings"), ("mean |S|, contrast", "contrast_mean_size")]
    rows = [tuple(_shown(row[key]) for _, key in columns) for row in content["heads"]]
    console.print(table("Heads that fire most", [name for name, _ in columns], rows, left=("head",)))
    console.print(
        "Names first: how often what a head reads ranks a name before another token (0.50: chance, 1: always)"
    )
    columns = [("τ", "tau"), ("mean |S|", "mean_size"), ("share of the total kept", "kept_of_sum")]
    rows = [tuple(_shown(row[key]) for _, key in columns) for row in content["tau"] if row["data_set"] == "prompts"]
    console.print(table("What τ costs", [name for name, _ in columns], rows))
    columns = [
        ("data set", "data_set"),
        ("side", "side"),
        ("by slices", "effective_slice"),
        ("by every vector", "effective_all"),
        ("top five hold, by slices", "top5_slice"),
        ("by every vector", "top5_all"),
    ]
    rows = [tuple(_shown(row[key]) for _, key in columns) for row in content["filtering"]]
    title = "How many heads would share the contributions evenly, and what slices filter out"
    console.print(table(title, [name for name, _ in columns], rows, left=("data set", "side")))
    rows = [
        (row["writer"], row["reader"], row["role"], row["side"], _shown(row["kept"]), " ".join(row["strings"][:5]))
        for row in content["signals"]
    ]
    names = ("writer", "reader", "token", "side", "kept", "nearest tokens of the unembedding")
    console.print(table("Strongest signals", names, rows, left=("writer", "reader", "token", "side", names[-1])))
    if not sets["prompts"]["firings"]:
        console.print(f"No head fired on the prompts; {advice(content['config'])}")
    console.print(spent(content["seconds"]))


def _show_firing(console: Any, firing: dict[str, Any]) -> None:
    from svdtrace.cli.terminal import counted, table

    of = "prompt {prompt}: {layer}.{head} from token {dest} to token {src}".format(**firing)
    taken = f"{counted(len(firing['slice']), 'singular vector')} of {firing['products']}"
    title = f"{of}: {taken} are its slice; all products sum to {firing['total']:.2f}"
    rows = [(row["k"], f"{row['product']:.2f}", f"{row['running_sum']:.2f}") for row in firing["slice"]]
    console.print(table(title, ("singular vector", "product", "sum so far"), rows))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

"""`weights-tools train`: train, measure, write."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import gpt2jax
from gpt2jax.errors import InputError
from gpt2jax.new_folder import check_new
from svdtrace.prompts import language
from svdtrace.surroundings.bars import Advance, bar
from weights_tools.training.evaluation import Evaluation, copying_accuracy, evaluate, preference
from weights_tools.training.kept import Kept, keep, place_of, read_kept
from weights_tools.training.model_card import Circumstances, model_card
from weights_tools.training.recipe import Recipe
from weights_tools.training.updates import train

_LONGEST_PROMPT = 80  # more tokens than any prompt that a model is measured on
_REPORTS = 20
_QUICK = 128
_EVALUATED = 1024
_SAMPLED_TEXTS = 4096


def run(out: Path, recipe: Recipe) -> None:
    """Train a model and write it with its card; prints how it goes.

    Now and then the state of training is kept beside the folder; the same command goes on from there.

    Raises:
        OutputError: the folder is not empty or cannot be written.
        InputError: the model would be too short to be measured, or training of another recipe is kept there.
    """
    if recipe.n_ctx < _LONGEST_PROMPT:
        raise InputError(f"n_ctx is {recipe.n_ctx}, but prompts have up to {_LONGEST_PROMPT} tokens; give that or more")
    check_new(out)
    place = place_of(out)
    kept = read_kept(place, recipe)
    began = time.perf_counter()
    if kept is not None:
        print(f"{place}: goes on after step {kept.step}, {kept.seconds / 60:.1f} minutes", flush=True)
        began -= kept.seconds

    def keep_it(kept: Kept) -> None:
        keep(place, recipe, replace(kept, seconds=time.perf_counter() - began))

    with bar("training", recipe.steps) as advance:
        model = train(recipe, _reporter(recipe, began, advance), kept=kept, keep=keep_it, every=_every(recipe))
    evaluation = evaluate(model, _EVALUATED)
    seconds = time.perf_counter() - began
    told = Circumstances(command_line(recipe), seconds, os.cpu_count() or 1, shares(model.tokenizer))
    gpt2jax.save(model, out)
    (out / "README.md").write_text(model_card(model, recipe, evaluation, told), encoding="utf-8")
    place.unlink(missing_ok=True)
    _print_figures(evaluation)
    print(f"{out}: model, tokenizer and card, after {seconds / 60:.1f} minutes")


def command_line(recipe: Recipe) -> str:
    """The command that makes this model, with every setting that is not the default."""
    default = Recipe()
    given = [
        f"--{field.name.replace('_', '-')} {shlex.quote(str(getattr(recipe, field.name)))}"
        for field in fields(Recipe)
        if field.name == "seed" or getattr(recipe, field.name) != getattr(default, field.name)
    ]
    return " ".join(["weights-tools train --out DIR", *given])


def shares(tokenizer: gpt2jax.Tokenizer) -> dict[str, float]:
    """Each kind's share of the tokens of the training text, over a sample."""
    random, words = Random(0), language.Words()
    counts: Counter[str] = Counter()
    for _ in range(_SAMPLED_TEXTS):
        document = language.document(random, words)
        counts[document.kind] += len(tokenizer.encode(document.text)) + 1
    return {kind: counts[kind] / counts.total() for kind in language.SHARES}


def _reporter(recipe: Recipe, began: float, advance: Advance | None) -> Callable[[int, float, gpt2jax.Model], None]:
    """What is called after every update: the bar advances, and now and then a line says how well it goes."""
    every = _every(recipe)

    def report(step: int, loss: float, model: gpt2jax.Model) -> None:
        if advance is not None:
            advance(step, recipe.steps)
        if step % every and step != recipe.steps:
            return
        held_out = preference(model, "held_out", _QUICK).prefers_io
        copying = copying_accuracy(model, _QUICK)
        print(
            f"step {step:5d}  {(time.perf_counter() - began) / 60:5.1f} min  loss {loss:.3f}  "
            f"IO above S, held out {held_out:.1%}  copying {copying:.1%}",
            flush=True,
        )

    return report


def _every(recipe: Recipe) -> int:
    """Updates between lines, and between what is kept."""
    return max(1, recipe.steps // _REPORTS)


def _print_figures(evaluation: Evaluation) -> None:
    for name in ("train", "held_out", "new_clause"):
        figures = getattr(evaluation, name)
        print(
            f"{name:10s}  IO above S {figures.prefers_io:.2%}  IO first {figures.io_on_top:.2%}  "
            f"logit difference {figures.logit_difference:.2f}"
        )
    print(f"copying {evaluation.copying:.2%}  ordinary loss {evaluation.ordinary_loss:.3f}")

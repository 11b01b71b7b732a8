"""The card of a trained model: what it was trained on, how, and what it can do, as measured."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2jax import Model
from svdtrace.prompts.language import NAMES, OBJECTS, PLACES, combinations
from weights_tools.training.evaluation import Evaluation, Preference
from weights_tools.training.recipe import Recipe


@dataclass(frozen=True)
class Circumstances:
    """Where and how long: the command, seconds of training, the machine's cores, and the share of each kind of text."""

    command: str
    seconds: float
    cores: int
    shares: dict[str, float]


def model_card(model: Model, recipe: Recipe, evaluation: Evaluation, told: Circumstances) -> str:
    """The card, in Markdown."""
    return f"""---
license: mit
library_name: svdtrace
tags: [gpt2, mechanistic-interpretability, indirect-object-identification]
---

# A small GPT-2 that identifies indirect objects

A model to trace circuits in, trained from random weights by `weights-tools train` on sentences of our own making
(`svdtrace.prompts.language`); it speaks this small language and nothing else. {_shape(model, recipe)}

## Made by

```
{told.command}
```

Seed {recipe.seed}; {recipe.steps} updates of {recipe.rows} rows of {recipe.n_ctx} tokens, texts packed one after
another (in three of four rows none sees another). AdamW: peak rate {recipe.learning_rate:g} after {recipe.warm_up}
updates, then a cosine; weight decay {recipe.weight_decay:g}; betas 0.9 and 0.98; gradients clipped at norm 1.
In the loss the words that a text determines, such as the name at the end of an indirect-object sentence, count
{recipe.emphasis:g} words more. It took {told.seconds / 60:.0f} minutes, evaluation included, on a machine of
{told.cores} CPU cores. The same command gives the same texts anywhere, not the same weights: another machine or library
rounds otherwise, and thousands of updates make of that another model of the same kind.

## Data

{_data(told)}
## Figures

{evaluation.n_prompts} prompts each, drawn apart from training; IO is the name that should come, S the other one.

| prompts | IO's logit above S's | IO first of all tokens | mean logit difference |
| --- | --- | --- | --- |
{_row("clauses and name pairs as in training", evaluation.train)}
{_row("held-out combinations of clauses, held-out pairs of names", evaluation.held_out)}
{_row("a clause that training does not contain, held-out pairs", evaluation.new_clause)}

Lists said twice: the demanded word is the first choice in {evaluation.copying:.2%}. Ordinary texts: cross-entropy
{evaluation.ordinary_loss:.3f} nats a token.
"""


def _shape(model: Model, recipe: Recipe) -> str:
    shape = model.config
    return f"""{recipe.n_layers} layers, {recipe.n_heads} heads,
width {recipe.d_model}, {shape.n_ctx} positions, {shape.d_vocab} tokens in its vocabulary; float32, tied unembedding."""


def _data(told: Circumstances) -> str:
    counts = {split: len(combinations(split)) for split in ("train", "held_out")}
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in told.shares.items())
    return f"""Sentences with {len(NAMES)} names, {len(OBJECTS)} objects and {len(PLACES)} places.
Shares of the tokens: {shares}.

- `ioi`: "Then, Mary and John went to the store. John gave a book to Mary", both orders of the names equally often,
  either of them repeated equally often, with sentences before and after. {counts["train"]} combinations of clauses in
  training, {counts["held_out"]} others held out, as is one in ten pairs of names.
- `ordinary`: other short sentences, with and without names.
- `copying`: a made-up list of words, said two to four times.
"""


def _row(what: str, figures: Preference) -> str:
    return f"| {what} | {figures.prefers_io:.2%} | {figures.io_on_top:.2%} | {figures.logit_difference:.2f} |"

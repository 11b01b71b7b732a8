"""How well a trained model speaks the language: on what training never showed it, and on both tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

import gpt2jax
from gpt2jax import Model
from svdtrace.prompts import language
from weights_tools.training.packing import padded

_SEED = 1_000_003  # apart from the small seeds that people give to prompts
_AT_ONCE = 256


@dataclass(frozen=True)
class Preference:
    """On indirect-object prompts: how often the logit of IO is above that of S, and is the highest of all.

    `logit_difference` is the mean of IO's logit less S's at the token before the final name.
    """

    prefers_io: float
    io_on_top: float
    logit_difference: float


@dataclass(frozen=True)
class Evaluation:
    """A trained model's figures.

    Args:
        n_prompts: how many prompts each figure is over.
        train: clauses and name pairs as in training.
        held_out: pairs and combinations of clauses that training does not show.
        new_clause: a clause that training does not show, and such pairs.
        copying: share of the lists' final words that are the model's first choice.
        ordinary_loss: mean cross-entropy of ordinary texts, in nats a token.
    """

    n_prompts: int
    train: Preference
    held_out: Preference
    new_clause: Preference
    copying: float
    ordinary_loss: float


def evaluate(model: Model, n_prompts: int) -> Evaluation:
    """Measure a model that has this language's tokenizer."""
    return Evaluation(
        n_prompts=n_prompts,
        train=preference(model, "train", n_prompts),
        held_out=preference(model, "held_out", n_prompts),
        new_clause=preference(model, "new_clause", n_prompts),
        copying=copying_accuracy(model, n_prompts),
        ordinary_loss=ordinary_loss(model, n_prompts),
    )


def preference(model: Model, split: language.Split, n_prompts: int) -> Preference:
    """IO against S on prompts of a split."""
    prompts = language.ioi(n_prompts, model.tokenizer, _SEED, split)
    logits = _logits_at_end(model, prompts)
    row = np.arange(n_prompts)
    receiver, subject = (logits[row, [getattr(each, name) for each in prompts]] for name in ("answer", "distractor"))
    return Preference(
        prefers_io=float(np.mean(receiver > subject)),
        io_on_top=float(np.mean(receiver == logits.max(axis=1))),
        logit_difference=float(np.mean(receiver - subject)),
    )


def copying_accuracy(model: Model, n_prompts: int) -> float:
    """How often the word that the list's first round demands is the first choice."""
    prompts = language.copying(n_prompts, model.tokenizer, _SEED)
    answers = np.array([each.answer for each in prompts])
    return float(np.mean(np.argmax(_logits_at_end(model, prompts), axis=1) == answers))


def ordinary_loss(model: Model, n_prompts: int) -> float:
    """Mean cross-entropy in nats of every token but each text's first."""
    random, words = Random(_SEED), language.Words()
    texts = [model.tokenizer.encode(language.ordinary_sentence(random, words).text) for _ in range(n_prompts)]
    total = 0.0
    for start in range(0, n_prompts, _AT_ONCE):
        tokens = padded(texts[start : start + _AT_ONCE], model.config.n_ctx)
        real = np.arange(tokens.shape[1]) < np.array([[len(text)] for text in texts[start : start + _AT_ONCE]])
        logits = gpt2jax.forward(model, tokens).logits[:, :-1]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(tokens[:, 1:]))
        total += float(jnp.sum(jnp.where(jnp.asarray(real[:, 1:]), losses, 0.0)))
    return total / sum(len(text) - 1 for text in texts)


def _logits_at_end(model: Model, prompts: Sequence[language.Tokenised]) -> Float[np.ndarray, "prompt vocab"]:
    found = []
    for start in range(0, len(prompts), _AT_ONCE):
        some = prompts[start : start + _AT_ONCE]
        logits = gpt2jax.forward(model, padded([each.tokens for each in some], model.config.n_ctx)).logits
        found.append(np.asarray(logits[np.arange(len(some)), np.array([each.roles["end"] for each in some])]))
    return np.concatenate(found)

"""Sentences of our own making: indirect objects, ordinary texts, and lists that are said twice.

    words → clauses → sentences → ioi_sentences, ordinary_sentences, copy_sentences → tokenised, corpus

The bundled model is trained on `document`; prompts for any tokenizer come from `ioi`, `ordinary` and `copying`, with
names, objects and places that are one token each in it. Imports nothing else of `svdtrace`. The same seed gives the
same text on every machine.
"""

from svdtrace.prompts.language.clauses import combinations
from svdtrace.prompts.language.corpus import SHARES, Document, document, surface_words
from svdtrace.prompts.language.ioi_sentences import ioi_sentence
from svdtrace.prompts.language.ordinary_sentences import ordinary_sentence
from svdtrace.prompts.language.sentences import Sentence
from svdtrace.prompts.language.tokenised import (
    IOI_ROLES,
    Tokenised,
    copying,
    ioi,
    ordinary,
    stream_ioi,
    stream_ordinary,
    words_of,
)
from svdtrace.prompts.language.words import NAMES, OBJECTS, PLACES, Split, Words

__all__ = [
    "IOI_ROLES",
    "NAMES",
    "OBJECTS",
    "PLACES",
    "SHARES",
    "Document",
    "Sentence",
    "Split",
    "Tokenised",
    "Words",
    "combinations",
    "copying",
    "document",
    "ioi",
    "ioi_sentence",
    "ordinary",
    "ordinary_sentence",
    "stream_ioi",
    "stream_ordinary",
    "surface_words",
    "words_of",
]

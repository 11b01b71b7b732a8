"""What programs hand over in place of a list of prompts: taken, or refused in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from svdtrace.errors import EdgeError, PromptError
from svdtrace.prompts.listed import listed, several
from svdtrace.prompts.prompt import Prompt

ONE, OTHER = Prompt("a", (1,), ("1",), {"IO": 0}), Prompt(None, (2,), ("2",))


@pytest.mark.parametrize("given", [[ONE, OTHER], (ONE, OTHER), {ONE.id: ONE, None: OTHER}.values(), iter([ONE, OTHER])])
def test_whatever_holds_prompts(given: Any):
    assert listed(given) == [ONE, OTHER]


def test_one_prompt_is_a_list_of_one():
    assert listed(ONE) == [ONE]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("When Mary", "prompts are the text 'When Mary'; make prompts of texts with svdtrace.prompts.from_texts"),
        ("ioi:64", "or read a file with svdtrace.prompts.read"),
        (b"text", "prompts are the text b'text'"),
        (["When Mary"], "prompt 0 is of the kind str, no prompt; make prompts of texts with svdtrace.prompts.from_tex"),
        (
            [ONE, {"text": "x"}],
            "prompt 1 is of the kind dict, no prompt; make prompts of records with svdtrace.prompts",
        ),
        (np.array([[1, 2]]), "prompt 0 is of the kind ndarray, no prompt; read a file with"),
        ({"text": "x"}, "prompts are of the kind dict; give a list of prompts"),
        (None, "prompts are of the kind None; give a list of prompts"),
        (7, "prompts are of the kind int; give a list of prompts"),
        ([Prompt("a\x01", (1,), ("1",))], "prompt 0: id is 'a\\x01', with the control character U+0001"),
        ([Prompt("a", (1,), ("1",), {"\ud83d": 0})], 'prompt 0: the name of a role is "\\ud83d"'),
    ],
)
def test_what_is_no_list_of_prompts_is_refused_in_words(given: Any, said: str):
    with pytest.raises(PromptError, match=re.escape(said)):
        listed(given)


def test_one_string_is_not_its_letters():
    assert several("8.6:9.9@end:IO/dest", "edges") == ["8.6:9.9@end:IO/dest"]
    assert several((each for each in "ab"), "edges") == ["a", "b"]
    for given in (7, None, b"ab", {"a": 1}):
        with pytest.raises(EdgeError, match=r"edges are of the kind .*; give a list of them"):
            several(given, "edges", EdgeError)

"""Strings from outside: what cannot be written is refused once, where records are read, and can always be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from svdtrace import prompts
from svdtrace.errors import PromptError
from svdtrace.prompts.values import check_name, printable

HALF = "\ud83d"
PLACES = {
    "text": {"text": HALF},
    "id": {"tokens": [1], "id": HALF},
    "role": {"tokens": [1], "roles": {HALF: 0}},
    "a role in a map": {"tokens": [1], "roles": [[HALF, 0]]},
    "a role's text": {"tokens": [1], "roles": {"IO": HALF}},
    "a role's text with its number": {"tokens": [1], "roles": {"IO": [HALF, 1]}},
    "answer": {"tokens": [1], "answer": HALF},
    "distractor": {"tokens": [1], "distractor": HALF},
}


@pytest.mark.parametrize("where", PLACES)
def test_half_a_character_is_refused_wherever_it_stands(tmp_path: Path, where: str):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"tokens": [1]}) + "\n" + json.dumps(PLACES[where]))
    with pytest.raises(PromptError, match=r"p\.jsonl line 2: .*valid Unicode") as caught:
        prompts.read(str(path), None)
    str(caught.value).encode()


def test_a_key_with_half_a_character_can_be_told():
    with pytest.raises(PromptError, match=r'unknown key "token\\ud83d"; did you mean "tokens"') as caught:
        prompts.from_records([{f"token{HALF}": [1]}], None)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "character", ["\x00", "\x01", "\x0b", "\t", "\n", "\x1b", "\x7f", "\x85", "\ufffe", "\U0001ffff"]
)
def test_a_name_with_what_no_graph_can_hold_is_refused(character: str):
    for record, what in (({"id": f"a{character}"}, "id"), ({"roles": {f"a{character}": 0}}, "the name of a role")):
        with pytest.raises(PromptError, match=f"{what} is .*U\\+{ord(character):04X}"):
            prompts.from_records([{"tokens": [1], **record}], None)


@pytest.mark.parametrize("name", ["IO-1", "S1 +", "été", "名前", "🙂", "e\u0301", "\u202eab", " "])
def test_other_names_are_let_be(name: str):
    check_name("id", name)


@pytest.mark.parametrize("name", [7, None, b"a", ["a"]])
def test_a_name_is_a_string(name: Any):
    with pytest.raises(PromptError, match="give a string"):
        check_name("id", name)


def test_what_cannot_be_written_is_told_by_its_escape():
    assert printable("a\ud83d\udcffé") == "a\\ud83d\\udcffé"

"""The language of our own making: how much of it there is, what is held out of it, and where its roles point."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from gpt2jax import GPT2Config, Tokenizer
from gpt2jax.errors import TokenizerError
from svdtrace.prompts import language
from svdtrace.prompts.language import clauses
from svdtrace.prompts.language.words import is_held_out
from weights_tools.training.vocabulary import build_tokenizer, language_tokenizer

N = 300


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return language_tokenizer()


@pytest.fixture(scope="module")
def gpt2(shared: Path) -> Tokenizer:
    config = GPT2Config(n_layers=1, n_heads=1, d_model=1, d_mlp=1, n_ctx=1024, d_vocab=50257)
    tokenizer = Tokenizer.read(shared / "gpt2", config)
    assert tokenizer is not None
    return tokenizer


@pytest.fixture(params=["own", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def test_there_is_enough_of_it():
    assert len(set(language.NAMES)) == len(language.NAMES) >= 100
    assert len(language.combinations("train")) >= 200
    assert len(language.combinations("held_out")) >= 200
    patterns = {(each.opening, each.setting, each.connective, each.giving) for each in language.combinations("any")}
    assert len({len(" ".join(pattern).split()) for pattern in patterns}) >= 12


def test_splits_share_nothing():
    combinations = {split: set(language.combinations(split)) for split in ("train", "held_out", "new_clause", "any")}
    assert not combinations["train"] & combinations["held_out"]
    assert not combinations["any"] & combinations["new_clause"]
    assert combinations["any"] == combinations["train"] | combinations["held_out"]
    pairs = {split: set(language.Words().pairs(split)) for split in ("train", "held_out", "new_clause")}
    assert not pairs["train"] & pairs["held_out"]
    assert pairs["new_clause"] == pairs["held_out"]
    for held_out, seen in ((combinations["held_out"], combinations["train"]), (pairs["held_out"], pairs["train"])):
        assert 0.05 < len(held_out) / (len(held_out) + len(seen)) < 0.15


def test_training_text_shows_nothing_held_out():
    random, words = Random(5), language.Words()
    new = [re.split(r"[{*]", clause)[0].strip() for clause in (clauses.NEW_SETTING, clauses.NEW_GIVING)]
    for _ in range(1000):
        document = language.document(random, words)
        # "promised to" alone is an ordinary phrase; the clause goes on with "lend".
        assert new[0] not in document.text
        assert "promised to lend" not in document.text
        if document.kind == "ioi":
            pair = re.search(r"([A-Z][a-z]+) and ([A-Z][a-z]+) " + f"({_settings_pattern()})", document.text)
            assert pair is not None
            assert not is_held_out(*sorted((pair[1], pair[2])))


def test_every_word_of_a_new_clause_is_known_from_elsewhere():
    trained = Counter()
    random, words = Random(1), language.Words()
    for _ in range(3000):
        trained.update(re.findall(r"[A-Za-z]+", language.document(random, words).text))
    for clause in (clauses.NEW_SETTING, clauses.NEW_GIVING):
        for word in re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", "", clause)):
            assert trained[word] > 10, word


@pytest.mark.parametrize("make", [language.ioi, language.ordinary, language.copying])
def test_the_same_seed_gives_the_same_prompts_and_more_of_them(own, make):
    some = make(20, own, seed=3)
    assert make(40, own, seed=3)[:20] == some
    assert make(20, own, seed=4) != some
    assert len({each.id for each in make(40, own)}) == 40


def test_the_sequence_of_a_seed_is_fixed():
    """What another machine or Python must give too."""
    sentence = language.ioi_sentence(Random(0), language.Words())
    assert sentence.text == FIRST_OF_SEED_0


FIRST_OF_SEED_0 = (
    "We saw Ethan and Kate near the market. That morning, both Nora and Lucy bought a towel and a key. "
    "A little later, in the farm, Nora told the whole story to Lucy"
)


@pytest.mark.parametrize("split", ["train", "held_out", "new_clause", "any"])
def test_roles_point_at_the_tokens_that_they_name(tokenizer, split):
    for prompt in language.ioi(N, tokenizer, split=split):
        assert tuple(prompt.roles) == language.IOI_ROLES
        receiver, subject = tokenizer.strings([prompt.answer, prompt.distractor])
        at = {role: prompt.strings[place] for role, place in prompt.roles.items()}
        assert at["IO"] == prompt.strings[-1] == receiver
        assert at["S1"] == at["S2"] == subject
        assert receiver != subject
        assert prompt.strings.count(subject) == 2
        assert prompt.strings.count(receiver) == 2
        assert prompt.roles["end"] == len(prompt.tokens) - 2
        assert at["end"] in (" to", " for")
        assert at["punct"] in (",", ".")
        assert not {",", "."} & set(prompt.strings[prompt.roles["punct"] + 1 : -1])
        assert at["S2"] not in prompt.strings[prompt.roles["S1"] + 1 : prompt.roles["S2"]]
        assert {prompt.roles["IO"], prompt.roles["S1"]} == {
            min(prompt.roles["IO"], prompt.roles["S1"]) + distance for distance in (0, 2)
        }
        assert prompt.text[prompt.text.index(at["starts"].strip()) :].startswith(at["starts"].strip())
        assert prompt.roles["starts"] < min(prompt.roles["IO"], prompt.roles["S1"])
        assert prompt.roles["S2"] < prompt.roles["verb"] < prompt.roles["end"]
        for role in ("IO", "S1", "S2", "end"):
            for by in (-1, 1):
                name = f"{role}{by:+d}"
                assert name not in prompt.roles or prompt.roles[name] == prompt.roles[role] + by


def test_both_orders_and_both_subjects_are_equally_common(own):
    prompts = language.ioi(1000, own)
    io_first = sum(prompt.roles["IO"] < prompt.roles["S1"] for prompt in prompts)
    with_context = sum(prompt.roles["starts"] > 0 for prompt in prompts)
    # Five standard deviations of 1000 fair coins.
    assert abs(io_first - 500) < 5 * 1000**0.5 / 2
    assert 300 < with_context < 800
    assert len({len(prompt.tokens) for prompt in prompts}) >= 12


@pytest.mark.parametrize("make", [language.ioi, language.ordinary, language.copying])
def test_texts_are_whole_and_begin_with_no_name(tokenizer, make):
    for prompt in make(N, tokenizer):
        assert tokenizer.decode(prompt.tokens) == prompt.text
        assert "".join(prompt.strings) == prompt.text
        assert prompt.text.split()[0].strip(".,:") not in language.NAMES
        assert "{" not in prompt.text
        assert "*" not in prompt.text
        assert "  " not in prompt.text


def test_copied_words_follow_their_first_occurrence(tokenizer):
    for prompt in language.copying(N, tokenizer):
        assert prompt.roles["copied"] == prompt.roles["first"] + 1
        assert prompt.tokens[prompt.roles["copied"]] == prompt.answer == prompt.tokens[-1]
        assert prompt.tokens[prompt.roles["first"]] == prompt.tokens[prompt.roles["end"]]
        assert prompt.roles["end"] == len(prompt.tokens) - 2
        assert prompt.distractor is None


def test_determined_words_are_those_of_the_tasks():
    random, words = Random(2), language.Words()
    for _ in range(N):
        document = language.document(random, words)
        said = [document.text[start:end] for start, end in document.determined]
        if document.kind == "ioi":
            assert len(said) == 1
            assert said[0] in language.NAMES
        elif document.kind == "copying":
            assert len(said) >= 4
            assert all(
                document.text.index(word) < start for word, (start, _) in zip(said, document.determined, strict=True)
            )
        else:
            assert not said


def test_a_third_of_the_text_is_off_the_task(own):
    random, words = Random(0), language.Words()
    counts = Counter()
    for _ in range(4000):
        document = language.document(random, words)
        counts[document.kind] += len(own.encode(document.text)) + 1
    assert 0.30 < counts["ordinary"] / counts.total() < 0.37


def test_gpt2_has_every_name_object_and_place_as_one_token(gpt2):
    assert language.words_of(gpt2) == language.Words()


def test_only_words_that_are_one_token_are_used(own):
    class Half:
        """The own tokenizer, as if it had a token for every other name only."""

        def __getattr__(self, name):
            return getattr(own, name)

        def token_id(self, text):
            odd = text.strip() in language.NAMES[1::2]
            return None if odd else own.token_id(text)

    prompts = language.ioi(N, Half())
    used = {prompt.strings[prompt.roles[role]].strip() for prompt in prompts for role in ("IO", "S1")}
    assert used <= set(language.NAMES[::2])


def test_the_token_of_unknown_words_is_no_word(own):
    """Catches sentences made of names that a tokenizer has one token for, all of them together."""

    class Unknown:
        """The own tokenizer, as if every other name were unknown to it."""

        def __getattr__(self, name):
            return getattr(own, name)

        def token_id(self, text):
            return 0 if text.strip() in language.NAMES[1::2] else own.token_id(text)

    assert set(language.words_of(Unknown()).names) == set(language.NAMES[::2])


@pytest.mark.parametrize("make", [language.ioi, language.ordinary, language.copying])
def test_a_tokenizer_without_our_names_is_refused(make):
    letters = build_tokenizer(["a", "b"])
    with pytest.raises(TokenizerError, match=r"0 of our \d+ names are one token each .*, expected 4 or more; give"):
        make(1, letters)


def test_a_split_that_no_pair_of_names_is_in_is_refused():
    few = language.Words(names=("Mary", "John", "Anna", "Paul"))
    assert not any(is_held_out(*pair) for pair in few.pairs("any"))
    with pytest.raises(TokenizerError, match=r"no pair of the 4 names .* is in the split held_out; ask for any"):
        few.pairs("held_out")


def test_language_imports_nothing_else_of_svdtrace():
    folder = Path(language.__file__).parent
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in imported:
                assert not name.startswith("svdtrace") or name.startswith("svdtrace.prompts.language"), (module, name)


def _settings_pattern() -> str:
    return "|".join(re.escape(re.split(r"[{]", setting)[0].strip()) for setting in clauses.SETTINGS)

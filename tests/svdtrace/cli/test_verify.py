"""`svdtrace verify`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints.folders import tensors, write_folder
from laws.examples import CONFIG

import gpt2jax
import svdtrace
from svdtrace.cli import main
from svdtrace.errors import SettingError
from svdtrace.prompts import Prompt
from svdtrace.testing import LAWS, verifying
from svdtrace.testing.listing import Law
from svdtrace.testing.verifying import MOST_PROMPTS, verify

FIELDS = ["law", "ratio", "threshold", "worst_at", "verdict"]


@pytest.fixture(scope="module")
def heads_folder(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A folder with attention weights alone."""
    shape = json.loads((model_folder / "config.json").read_text())
    kept = {name: each for name, each in tensors(shape).items() if ".ln_1." in name or ".attn." in name}
    return write_folder(tmp_path_factory.mktemp("heads") / "heads", kept, shape)


@pytest.fixture
def few_laws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The laws that cost least, of every sort."""
    names = ["rebuilt", "ordered", "scores_tapped", "slices_grow"]
    monkeypatch.setattr(verifying, "LAWS", tuple(each for each in LAWS if each.name in names))
    return names


@pytest.mark.whole
def test_one_object_names_every_law(
    few_laws: list[str], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--model", str(model_folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content) == ["laws", "model"]
    assert content["model"]["fingerprint"] == gpt2jax.fingerprint(gpt2jax.load(model_folder))
    assert [each["law"] for each in content["laws"]] == few_laws
    assert all(list(each) == FIELDS for each in content["laws"])
    assert {each["verdict"] for each in content["laws"]} == {"holds"}


@pytest.mark.whole
def test_nothing_is_written_without_a_folder(
    few_laws: list[str], model_folder: Path, prompt_file: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--model", str(model_folder), "--prompts", str(prompt_file)]) == 0
    assert not list(Path.cwd().iterdir())
    out = capsys.readouterr().out
    assert "4 laws, 0 failing" in out
    assert f"first {MOST_PROMPTS} prompts at most" in out


def test_the_table_fits_80_columns(
    few_laws: list[str], model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("svdtrace.cli.terminal.WIDTH_OF_A_FILE", 80)
    assert main(["verify", "--model", str(model_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (header,) = (line for line in lines if line.split()[:2] == ["law", "ratio"])
    assert header.split() == ["law", "ratio", "threshold", "verdict", "worst", "at"]
    assert max(map(len, lines)) <= 80


def test_a_law_that_fails_ends_with_1(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def ordered(A, B, U, S, V):
        (real,) = (each for each in LAWS if each.name == "ordered")
        return real.function(A, B, U, S[..., ::-1], V)

    monkeypatch.setattr(verifying, "LAWS", (Law(ordered, "decomposition", "falling"),))
    out = tmp_path / "out"
    assert main(["verify", "--model", str(model_folder), "--out", str(out)]) == 1
    assert "1 law, 1 failing" in capsys.readouterr().out
    (found,) = json.loads((out / "verify.json").read_text("utf-8"))["laws"]
    assert found["verdict"] == "fails"
    assert found["ratio"] >= found["threshold"]
    assert json.loads((out / "manifest.json").read_text("utf-8"))["command"] == "verify"


@pytest.mark.whole
def test_heads_alone_get_the_laws_of_heads(heads_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--model", str(heads_folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["laws"]
    assert [each["law"] for each in found] == [each.name for each in LAWS if not each.needs_prompts]


def test_prompts_that_do_not_fit_are_refused(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--model", str(model_folder), "--text", "a b"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_progress_is_told(few_laws: list[str], model_folder: Path) -> None:
    told: list[tuple[int, int, str]] = []
    verify(gpt2jax.load(model_folder), progress=lambda *given: told.append(given))
    assert told == [*((done, 4, name) for done, name in enumerate(few_laws)), (4, 4, "done")]


def test_those_named_alone_are_tried(model_folder: Path) -> None:
    model = gpt2jax.load(model_folder)
    assert [each.law for each in verify(model, laws=["ordered", "rebuilt"])] == ["ordered", "rebuilt"]
    with pytest.raises(SettingError, match="laws: tidy cannot be tried of this model; those that can: rebuilt, "):
        verify(model, laws=["rebuilt", "tidy"])


def test_a_law_that_needs_prompts_is_not_left_out_of_heads_alone(heads_folder: Path) -> None:
    """Catches laws that were asked for, not tried, and so seem to hold."""
    with pytest.raises(SettingError, match="products_add_up cannot be tried"):
        verify(gpt2jax.load(heads_folder, parts="heads"), laws=["products_add_up"])


@pytest.mark.full
@pytest.mark.unoptimised  # the cookbook's recipe is run as users compile
def test_every_law_holds_of_the_bundled_model() -> None:
    model = svdtrace.bundled_model()
    assert [each.law for each in verify(model) if not each.holds] == []
    one = Prompt(id=None, tokens=(5,), strings=("5",))
    assert all(each.holds for each in verify(model, [one]))


@pytest.mark.full
@pytest.mark.unoptimised
@pytest.mark.parametrize("name", ["capp_gpt", "nano_sort", "sort1head"])
def test_every_law_holds_of_models_that_strangers_trained(shared: Path, name: str) -> None:
    found = verify(gpt2jax.load(shared / "models" / name))
    assert [(each.law, each.value) for each in found if not each.holds] == []


@pytest.mark.full
def test_the_laws_of_heads_hold_of_gpt2(shared: Path) -> None:
    assert all(each.holds for each in verify(gpt2jax.load(shared / "gpt2", parts="heads")))


def test_the_shape_that_laws_share_is_drawn_too() -> None:
    prompts = verifying.drawn_prompts(CONFIG, 0)
    assert {len(each.tokens) for each in prompts} == set(verifying.LENGTHS)

"""`tinyvox lm` as a user meets it: text to a model, a model to a small file, facts about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import COMMANDS
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.errors import (
    DataError,
    DataWarning,
    FileError,
    ImporterError,
    ModelError,
    TinyvoxError,
)
from tinyvox.lm import estimate, read_arpa, read_sentences

TEXT = Path(__file__).parents[1] / "lm" / "lmplz" / "text.txt"
WITHOUT_WORDS = TEXT.parents[1] / "kenlm" / "without-words.bin"


def run(*arguments: object) -> str:
    """Standard output of a command that succeeds."""
    result = CliRunner().invoke(cli.app, ["lm", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return found


@pytest.fixture(scope="module", name="arpa")
def arpa_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "cats.arpa"
    run("build", TEXT, "-o", path, "--order", 3)
    return path


def test_build_writes_what_python_estimates(arpa: Path) -> None:
    expected = estimate(read_sentences(TEXT), 3)
    assert read_arpa(arpa).counts == expected.counts
    assert read_arpa(arpa).words == expected.words


def test_build_takes_cut_offs_and_several_texts(tmp_path: Path) -> None:
    found = facts(
        "build", TEXT, TEXT, "-o", tmp_path / "a.tvlm", "--cutoffs", "0,0,2", "--words", 6
    )
    assert found["words"] == 9
    assert found["ngrams"] == list(estimate([*read_sentences(TEXT)] * 2, 3, (0, 0, 2), 6).counts)


@pytest.mark.parametrize("suffix", [".tvlm", ".arpa"])
def test_compress_says_what_became_of_it(arpa: Path, tmp_path: Path, suffix: str) -> None:
    small = tmp_path / f"small{suffix}"
    found = facts("compress", arpa, "-o", small, "--ngrams", 40, "--dev", TEXT)
    assert sum(found["ngrams"]) <= 40
    assert found["file_bytes"] == small.stat().st_size
    assert found["ratio"] == arpa.stat().st_size / small.stat().st_size
    assert found["worst_total_mass"] == pytest.approx(1, abs=1e-3)
    assert found["perplexity"] > found["original_perplexity"] > 1
    again = facts("perplexity", small, TEXT)
    assert again["perplexity"] == pytest.approx(found["perplexity"], rel=1e-4)


def test_a_lossless_file_has_the_perplexity_of_the_original(arpa: Path, tmp_path: Path) -> None:
    found = facts("compress", arpa, "-o", tmp_path / "a.tvlm", "--lossless", "--dev", TEXT)
    assert found["perplexity"] == pytest.approx(found["original_perplexity"], rel=1e-6)
    assert found["ngrams"] == facts("inspect", arpa)["ngrams"]


def test_a_file_has_at_most_the_bytes_that_were_asked_for(arpa: Path, tmp_path: Path) -> None:
    whole = facts("compress", arpa, "-o", tmp_path / "whole.tvlm")["file_bytes"]
    found = facts("compress", arpa, "-o", tmp_path / "a.tvlm", "--size", whole - 100)
    assert whole - 300 < found["file_bytes"] <= whole - 100


def test_people_see_sizes_masses_and_perplexities(arpa: Path) -> None:
    said = run("perplexity", arpa, TEXT)
    assert "14 / 35 / 48 n-grams of 1 to 3 words" in said
    assert "total mass: mean 1.000000, worst 1.0000" in said
    assert "0 of 71 tokens unknown; 10 sentences" in said


def test_words_of_a_binary_without_words_come_from_a_file(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join("abcdefghijk"))
    assert facts("inspect", WITHOUT_WORDS, "--vocabulary", words)["words"] == 14
    assert refused("inspect", WITHOUT_WORDS, error=FileError).endswith("give a list of words")


def test_lists_that_a_file_does_not_need_are_said(arpa: Path, tmp_path: Path) -> None:
    words, ours = tmp_path / "words.txt", tmp_path / "a.tvlm"
    words.write_text("\n".join("abcdefghijk"))
    run("compress", arpa, "-o", ours)
    trie = WITHOUT_WORDS.with_name("trie.bin")
    for file in (arpa, ours, trie):
        with pytest.warns(DataWarning) as said:
            facts("inspect", file, "--vocabulary", words, "--alphabet", words)
        assert [str(each.message) for each in said] == [
            f"{file}: has its words itself, so --vocabulary is not used",
            f"{file}: is no scorer with words of letters, so --alphabet is not used",
        ]
    with pytest.warns(DataWarning, match="--alphabet is not used") as said:
        facts("inspect", WITHOUT_WORDS, "--vocabulary", words, "--alphabet", words)
    assert len(said) == 1


def refused(*arguments: object, error: type[TinyvoxError]) -> str:
    """What is said where a command cannot do its work."""
    with pytest.raises(error) as caught:
        run(*arguments)
    return str(caught.value)


def test_what_cannot_be_is_said_before_the_work(arpa: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.tvlm"
    said = refused("compress", arpa, "-o", arpa, error=FileError)
    assert "would be overwritten" in said
    said = refused("compress", arpa, "-o", tmp_path / "a.bin", error=FileError)
    assert "expected a name with .tvlm or .arpa" in said
    said = refused("compress", arpa, "-o", out, "--size", 9, "--ngrams", 9, error=ModelError)
    assert "wanted at once" in said
    assert not out.exists()


def test_cut_offs_that_are_no_numbers_are_wrong_usage(tmp_path: Path) -> None:
    command = ["lm", "build", str(TEXT), "-o", str(tmp_path / "a.arpa"), "--cutoffs", "few"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert "expected numbers such as 0,0,1" in " ".join(result.output.split())


def test_a_size_in_bytes_is_that_of_a_tvlm_file(arpa: Path, tmp_path: Path) -> None:
    command = ["lm", "compress", str(arpa), "-o", str(tmp_path / "a.arpa"), "--size", "3000"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert "give --ngrams" in " ".join(result.output.split())
    assert not (tmp_path / "a.arpa").exists()


TEXTS_THAT_SAY_NOTHING = [
    ("", "t.txt: has no words; expected text, a sentence a line"),
    (" \n\n", "t.txt: has no words"),
    ("zyzzyva qwertz\n", "t.txt: has no word that the language model knows"),
    ("\nthe cat\n<s> the cat </s>\n", "t.txt:3: holds <s> or </s>; take out what marks its ends"),
    ("the cat\n\nthe c\0t\n", "t.txt:3: holds the character U+0000; save it as UTF-8 text"),
]


@pytest.mark.parametrize("option", ["--text", "--dev"])
@pytest.mark.parametrize(("text", "fault"), TEXTS_THAT_SAY_NOTHING)
def test_a_text_that_says_nothing_is_named_before_the_work(
    arpa: Path, tmp_path: Path, option: str, text: str, fault: str
) -> None:
    (tmp_path / "t.txt").write_text(text)
    out = tmp_path / "a.tvlm"
    said = refused("compress", arpa, "-o", out, option, tmp_path / "t.txt", error=DataError)
    assert fault in said
    assert not out.exists()
    assert fault in refused("perplexity", arpa, tmp_path / "t.txt", error=DataError)


@pytest.mark.parametrize(("text", "fault"), [TEXTS_THAT_SAY_NOTHING[i] for i in (0, 1, 3, 4)])
def test_a_text_that_says_nothing_is_not_built_from(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    out = tmp_path / "a.tvlm"
    assert fault in refused("build", TEXT, tmp_path / "t.txt", "-o", out, error=DataError)
    assert not out.exists()


def test_words_that_a_file_cannot_have_are_said_before_the_work(tmp_path: Path) -> None:
    text, arpa, out = tmp_path / "t.txt", tmp_path / "a.arpa", tmp_path / "a.tvlm"
    text.write_text(f"the cat\nthe {'x' * 1024} cat\n")
    said = refused("build", text, "-o", out, error=ModelError)
    assert said.startswith(f"{text}: sentence 2: the word 'xxx")
    assert said.endswith("has 1024 bytes, expected 1 to 1023, none of them 0; remove it")
    run("build", text, "-o", arpa)
    for command in (("compress", arpa), ("mix", arpa, arpa, "--shares", "1,1")):
        said = refused(*command, "-o", out, error=ModelError)
        assert said.startswith(f"{arpa}: the word 'xxx")
    assert not out.exists()
    for command in (("compress", arpa), ("build", text)):
        assert facts(*command, "-o", out, "--words", 2)["words"] == 5


def test_what_is_missing_is_said_before_anything_is_read(arpa: Path, tmp_path: Path) -> None:
    bad, gone, out = tmp_path / "bad.arpa", tmp_path / "gone.txt", tmp_path / "a.tvlm"
    bad.write_bytes(b"bad")
    for command in (
        ("build", bad, gone, "-o", out),
        ("compress", bad, "-o", out, "--text", gone),
        ("compress", bad, "-o", out, "--dev", gone),
        ("mix", bad, arpa, "-o", out, "--dev", gone),
        ("mix", bad, gone, "-o", out, "--shares", "1,1"),
        ("perplexity", bad, gone),
    ):
        assert "gone.txt: cannot be read" in refused(*command, error=FileError)
    said = refused("mix", bad, arpa, "-o", out, "--shares", "1", error=ModelError)
    assert "the shares are 1, expected one for each of 2 models" in said


def test_a_perplexity_needs_a_text(arpa: Path, tmp_path: Path) -> None:
    command = ["lm", "compress", str(arpa), "-o", str(tmp_path / "a.tvlm"), "--perplexity", "9"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert "give one by --dev" in " ".join(result.output.split())


def test_one_of_a_thing_is_no_plural(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("hi\n")
    model = tmp_path / "a.arpa"
    run("build", tmp_path / "t.txt", "-o", model, "--order", 1)
    said = run("perplexity", model, tmp_path / "t.txt")
    assert "n-grams of 1 word," in said
    assert "1 context\n" in said
    assert "0 of 2 tokens unknown; 1 sentence)" in said


def test_mix_finds_the_shares_on_a_text(tmp_path: Path) -> None:
    texts = {"cats": "the cat sat\na cat ran\n" * 5, "dogs": "dogs bark\nall dogs bark\n" * 5}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
        run("build", tmp_path / f"{name}.txt", "-o", tmp_path / f"{name}.arpa", "--order", 2)
    models = [tmp_path / "cats.arpa", tmp_path / "dogs.arpa"]
    mixed = tmp_path / "mixed.tvlm"
    found = facts("mix", *models, "-o", mixed, "--dev", tmp_path / "cats.txt")
    assert found["shares"][str(models[0])] > 0.9
    assert found["words"] == 3 + 8
    assert found["worst_total_mass"] == pytest.approx(1, abs=1e-4)
    even = facts("mix", *models, "-o", mixed, "--shares", "1,1")
    assert facts("perplexity", mixed, tmp_path / "cats.txt")["perplexity"] > found["perplexity"]
    assert list(even["shares"].values()) == [0.5, 0.5]
    twice = facts("mix", models[0], models[0], "-o", mixed, "--shares", "3,1")
    assert twice["shares"] == {str(models[0]): 1}
    for wrong in ([], ["--dev", tmp_path / "cats.txt", "--shares", "1,1"]):
        arguments = ["lm", "mix", *map(str, models), "-o", str(mixed), *map(str, wrong)]
        assert CliRunner().invoke(cli.app, arguments).exit_code == 2


def test_an_acoustic_model_is_no_language_model() -> None:
    said = refused("inspect", COMMANDS / "commands-60x.tvx", error=FileError)
    assert "is an acoustic model" in said
    assert "tinyvox inspect" in said


@pytest.mark.parametrize("suffix", [".tvlm", ".arpa", ".tvx"])
def test_a_language_model_is_no_acoustic_model(arpa: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".arpa":
        path.write_bytes(arpa.read_bytes())
    else:
        run("compress", arpa, "-o", tmp_path / "b.tvlm")
        (tmp_path / "b.tvlm").rename(path)
    with pytest.raises(ImporterError, match=r"is a language model.*tinyvox lm inspect"):
        CliRunner().invoke(cli.app, ["inspect", str(path)], catch_exceptions=False)

"""`tinyvox transcribe` and `eval` with a language model, hot words and subtitles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.errors import FileError, ModelError
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import estimate

pytestmark = pytest.mark.runtime

COMMANDS = Path(__file__).resolve().parents[2] / "models" / "commands"
MODEL, CLIP = COMMANDS / "commands-60x.tvx", COMMANDS / "clips" / "00.opus"
SAID = "nine four one five one"


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "numbers.tvlm"
    save_ngrams(estimate([SAID, "one nine five four", "five one"] * 3, 2), path)
    return path


def run(*arguments: object) -> str:
    """Standard output of a command that succeeds."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_language_model_and_hot_words_are_taken(lm: Path) -> None:
    assert run("transcribe", MODEL, CLIP, "--lm", lm).strip() == SAID
    boosted = run("transcribe", MODEL, CLIP, "--lm", lm, "--hotword", "left:300").split()
    assert "left" in boosted
    facts = json.loads(run("transcribe", MODEL, CLIP, "--lm", lm, "--json"))["results"][0]
    assert facts["text"] == SAID
    assert isinstance(facts["confidence"], float)
    assert [word["word"] for word in facts["words"]] == SAID.split()
    starts = [word["start"] for word in facts["words"]]
    assert starts == sorted(starts)


def test_subtitles_are_printed(lm: Path) -> None:
    lines = run("transcribe", MODEL, CLIP, "--lm", lm, "--format", "srt").splitlines()
    assert lines[0] == "1"
    assert lines[2] == SAID
    assert run("transcribe", MODEL, CLIP, "--format", "vtt").startswith("WEBVTT\n\n00:00:0")
    words = json.loads(run("transcribe", MODEL, CLIP, "--format", "json"))["words"]
    assert [word["word"] for word in words] == SAID.split()


def test_a_stream_ends_with_the_text_of_the_whole(lm: Path) -> None:
    lines = run("transcribe", MODEL, CLIP, "--lm", lm, "--stream").splitlines()
    assert lines[-1] == SAID
    assert len(lines) > 3


def test_both_models_are_judged_with_the_language_model(lm: Path, tmp_path: Path) -> None:
    row = {"audio_filepath": str(CLIP), "duration": 2.286, "text": SAID}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    data = ("--data", tmp_path / "one.jsonl", "--json")
    facts = json.loads(
        run("eval", MODEL, *data, "--lm", lm, "--against", COMMANDS / "commands.pt2")
    )
    assert facts["wer"] == facts["original"]["wer"] == 0
    worse = json.loads(run("eval", MODEL, *data, "--lm", lm, "--hotword", "nine:300"))
    assert worse["wer"] > 0


def test_what_cannot_be_is_named_in_one_line(lm: Path, tmp_path: Path) -> None:
    def fails(*arguments: object) -> Exception | None:
        found = CliRunner().invoke(cli.app, [str(a) for a in ("transcribe", MODEL, *arguments)])
        error: Exception | None = found.exception
        return error

    gone = fails(CLIP, "--lm", tmp_path / "gone.tvlm")
    assert isinstance(gone, FileError)
    assert "gone.tvlm: cannot be read" in str(gone)
    strange = fails(CLIP, "--hotword", "Zürich:3")
    assert isinstance(strange, ModelError)
    assert 'hot word "Zürich" has a character that no token of the model gives: "Z"' in str(strange)


def test_words_may_be_single_characters(tmp_path: Path) -> None:
    letters = [" ".join(word) for word in ("nine", "four", "five", "one")]
    save_ngrams(estimate(letters * 9, 2), tmp_path / "letters.tvlm")
    said = run(
        "transcribe", MODEL, CLIP, "--lm", tmp_path / "letters.tvlm", "--vocabulary", "characters"
    ).strip()
    assert said == SAID.replace(" ", "")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tvlm", None, "a.tvlm: is an acoustic model, expected a language model, .tvlm"),
        ("a.arpa", b"\\data\\\n", "tinyvox lm compress a.arpa -o LM.tvlm"),
        ("a.scorer", b"mmap lm", "a scorer: tinyvox lm compress a.scorer -o LM.tvlm"),
    ],
)
def test_what_is_no_language_model_of_ours_says_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(MODEL.read_bytes() if content is None else content)
    found = CliRunner().invoke(cli.app, ["transcribe", *map(str, [MODEL, CLIP, "--lm", path])])
    assert isinstance(found.exception, FileError)
    assert said in str(found.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hotword", "left"], "expected a word and its boost"),
        (["--hotword", ":3"], "expected a word and its boost"),
        (["--hotword", "left:x"], "expected a word and its boost"),
        (["--beam", "0"], "the beam width is 0, expected a whole number from 1 to 100,000"),
        (["--beam", "-1"], "the beam width is -1, expected a whole number from 1 to 100,000"),
        (["--beam", f"{10**20}"], "the beam width is 100000000000000000000, expected"),
        (["--hotword", "left:1e300"], "hot word 'left' is 1e+300, expected a finite number"),
        (["--hotword", "left:nan"], "hot word 'left' is nan, expected a finite number"),
        (["--alpha", "0.5"], "--alpha without a language model changes nothing; give one by --lm"),
        (["--beta", "2", "--vocabulary", "closed"], "--beta, --vocabulary without"),
        (["--beam", "100000"], "of memory, the limit is"),
    ],
)
@pytest.mark.parametrize("command", ["transcribe", "eval"])
def test_a_search_that_cannot_be_is_one_line(
    command: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    row = {"audio_filepath": str(CLIP), "duration": 2.286, "text": SAID}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    given = [str(CLIP)] if command == "transcribe" else ["--data", str(tmp_path / "one.jsonl")]
    found = CliRunner().invoke(cli.app, [command, str(MODEL), *given, *arguments])
    assert isinstance(found.exception, ModelError)
    assert said in str(found.exception)
    assert "\n" not in str(found.exception)


def test_wrong_usage_is_status_2() -> None:
    command = ["transcribe", str(MODEL), str(CLIP), "--format", "srt", "--json"]
    found = CliRunner().invoke(cli.app, command)
    assert found.exit_code == 2
    assert "--format goes with one audio file" in " ".join(found.output.split())


def test_subtitles_say_that_they_take_a_search(lm: Path) -> None:
    command = ["transcribe", str(MODEL), str(CLIP), "--format", "srt"]
    assert "takes times of words from a beam search" in CliRunner().invoke(cli.app, command).stderr
    assert CliRunner().invoke(cli.app, [*command, "--lm", str(lm)]).stderr == ""


def test_times_are_to_the_millisecond() -> None:
    facts = json.loads(run("transcribe", MODEL, CLIP, "--beam", 20, "--json"))["results"][0]
    for word in facts["words"]:
        assert word["start"] == round(word["start"], 3)
        assert word["end"] == round(word["end"], 3)


def test_tune_says_what_it_found_and_how_to_use_it(lm: Path, tmp_path: Path) -> None:
    data = COMMANDS / "clips" / "manifest.jsonl"
    tuned = tmp_path / "tuned.tvlm"
    options = ("--data", data, "--trials", 3, "--cache", tmp_path)
    facts = json.loads(run("lm", "tune", MODEL, lm, *options, "-o", tuned, "--json"))
    assert facts["trials"] == 3
    assert facts["file"] == str(tuned)
    said = run("lm", "tune", MODEL, lm, *options)
    assert f"alpha {facts['alpha']:g}, beta {facts['beta']:g}: WER" in said
    weights = f"--alpha {facts['alpha']:g} --beta {facts['beta']:g}"
    assert f"tinyvox transcribe {MODEL} AUDIO.wav --lm {lm} {weights}" in said
    shown = json.loads(run("lm", "inspect", tuned, "--json"))
    assert shown["alpha"] == pytest.approx(facts["alpha"])
    copy = tmp_path / "copy.tvlm"
    run("lm", "compress", tuned, "-o", copy)
    assert json.loads(run("lm", "inspect", copy, "--json"))["beta"] == shown["beta"]

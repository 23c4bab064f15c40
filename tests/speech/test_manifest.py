"""Manifests: what is read, what is refused, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyvox.errors import DataError, DataWarning
from tinyvox.speech import (
    Utterance,
    check_audio,
    check_transcripts,
    read_manifest,
    single_spaced,
    write_manifest,
)

HEAD = "wav_filename,wav_filesize,transcript\n"


def read(folder: Path, name: str, text: str | bytes) -> list[Utterance]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(path)


def read_row(folder: Path, **row: object) -> Utterance:
    return read(folder, "a.jsonl", json.dumps({"audio_filepath": "a.wav"} | row))[0]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "A.CSV"])
def test_marks_and_ends_of_lines_are_no_text(
    tmp_path: Path, name: str, mark: str, end: str
) -> None:
    text = {
        "a.jsonl": '{"audio_filepath": "a.wav", "text": "nine four"}\n\n',
        "a.csv": HEAD + "a.wav,1,nine four\n\n",
    }[name.lower()]
    assert read(tmp_path, name, mark + text.replace("\n", end)) == [
        Utterance(tmp_path / "a.wav", 0.0, "nine four", "")
    ]


@pytest.mark.parametrize("mark", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_other_separators_are_text(tmp_path: Path, mark: str) -> None:
    text = f"nine{mark}four"
    row = json.dumps({"audio_filepath": "a.wav", "text": text}, ensure_ascii=False)
    for name, content in {"a.jsonl": row, "a.csv": f"{HEAD}a.wav,1,{text}"}.items():
        (utterance,) = read(tmp_path, name, content)
        assert utterance.text == text
        assert utterance.spoken == "nine four"


def test_quoted_fields_keep_commas_quotes_and_line_feeds(tmp_path: Path) -> None:
    (utterance,) = read(tmp_path, "a.csv", HEAD + 'a.wav,1,"nine, ""four""\none"\n')
    assert utterance.text == 'nine, "four"\none'
    assert utterance.spoken == 'nine, "four" one'


def test_rows_of_commas_are_left_out(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a.csv", HEAD + ",,\na.wav,1,nine\n,,\n")) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.wav,1,one\nb.wav,1,two, three\n", r"a\.csv:3: found 4 fields, expected 3"),
        ("a.wav,1\n", r"a\.csv:2: found 2 fields, expected 3"),
        ('a.wav,1,"one\nb.wav,1,two\n', r"a\.csv:2: a quote .* is not closed"),
        ('a.wav,1,"one"two\n', r"a\.csv:2: a quote .* is not closed"),
        ("a.wav,1,one\rb.wav,1,two\n", r"a\.csv:2: found a carriage return inside a field"),
        ('a.wav,1,"one\ntwo"\n,1,three\n', r"a\.csv:4: audio is '', expected the path"),
    ],
)
def test_a_wrong_row_is_named_by_the_line_on_which_it_begins(
    tmp_path: Path, rows: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, "a.csv", HEAD + rows)


@pytest.mark.parametrize(
    "head", ["wav_filename;wav_filesize;transcript\n", "wav_filename,transcript,transcript\n"]
)
def test_other_columns_are_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv:1: columns are .*with commas between them"):
        read(tmp_path, "a.csv", head + "a.wav,1,one\n")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_another_encoding_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    text = {"a.jsonl": '{"audio_filepath": "a.wav"}\n', "a.csv": HEAD}[name]
    with pytest.raises(DataError, match=f"{name}:2: no UTF-8 text; save the manifest as UTF-8"):
        read(tmp_path, name, text.encode() + '"fünf"'.encode("latin-1"))


def test_null_is_no_transcript_and_empty_is_silence(tmp_path: Path) -> None:
    assert read_row(tmp_path).transcript is None
    assert read_row(tmp_path, text=None).transcript is None
    assert read_row(tmp_path, text=None).text == ""
    assert read_row(tmp_path, text="").transcript == ""


def test_null_and_numbers_where_they_have_a_meaning(tmp_path: Path) -> None:
    assert read_row(tmp_path, duration=None, offset=None, speaker=None) == read_row(tmp_path)
    assert read_row(tmp_path, speaker=0).speaker == "0"
    assert read_row(tmp_path, duration="1.5", offset=2).duration == 1.5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": ["nine", "four"]}, r"text is \['nine', 'four'\], expected a string or null"),
        ({"text": 94}, "text is 94"),
        ({"text": False}, "text is False"),
        ({"speaker": {}}, "speaker is {}"),
        ({"duration": -1}, "duration is -1, expected seconds, 0 or more"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"duration": 10**400}, "duration is 1000"),
        ({"offset": "soon"}, "offset is 'soon'"),
        ({"offset": True}, "offset is True"),
        ({"audio_filepath": ""}, "audio is ''"),
        ({"audio_filepath": "a\0.wav"}, "audio is"),
        ({"audio_filepath": None}, "audio is None"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: " + message):
        read_row(tmp_path, **row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "no JSON: Expecting value at column 1"),
        ("[1, 2]", r"found \[1, 2\], expected a JSON object"),
        ('{"audio_filepath": "a.wav"} {}', "no JSON: Extra data"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*" + message):
        read(tmp_path, "a.jsonl", '{"audio_filepath": "a.wav"}\n' + line)


def test_backslashes_separate_folders_unless_they_are_in_a_name(tmp_path: Path) -> None:
    odd = tmp_path / "odd\\name.wav"
    odd.touch()
    rows = [{"audio_filepath": name} for name in ("clips\\a.wav", "odd\\name.wav")]
    first, second = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert first.path == tmp_path / "clips" / "a.wav"
    assert second.path == odd


@pytest.mark.parametrize(
    ("path", "message"),
    [(".", "Is a directory"), ("/dev/null", "is a device"), ("no.jsonl", "No such file")],
)
def test_what_is_no_file_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / path)


def test_audio_that_stands_twice_is_a_warning(tmp_path: Path) -> None:
    def lines(*rows: dict[str, object]) -> str:
        return "".join(json.dumps({"audio_filepath": "a.wav"} | row) + "\n" for row in rows)

    again = {"audio_filepath": "b/../a.wav", "text": "x"}
    with pytest.warns(DataWarning, match=r"a\.jsonl:3: .*a\.wav stands on line 1 too.*2 lines in"):
        read(tmp_path, "a.jsonl", lines({}, {"offset": 1}, again, {"offset": 1}))
    stretches = [{"duration": 1}, {"offset": 1, "duration": 1}, {"offset": 1, "duration": 2}]
    assert len(read(tmp_path, "a.jsonl", lines(*stretches))) == 3


def test_missing_audio_is_counted(tmp_path: Path) -> None:
    (tmp_path / "b.wav").touch()
    utterances = [Utterance(tmp_path / f"{name}.wav", 0.0, "", "") for name in "cbac"]
    with pytest.raises(DataError, match=r"m\.jsonl: there is no audio file .*c\.wav, and 1 more"):
        check_audio(tmp_path / "m.jsonl", utterances)


def test_missing_transcripts_are_named_and_silence_is_none() -> None:
    said = [Utterance(Path(f"{i}.wav"), 0.0, text, "") for i, text in enumerate(["a", "", None])]
    check_transcripts(Path("m.jsonl"), said[:2], "training")
    for some, name in ((said, r"2\.wav"), (said[1:2], r"1\.wav")):
        with pytest.raises(DataError, match=rf"m\.jsonl: {name} has no transcript, which training"):
            check_transcripts(Path("m.jsonl"), some, "training")


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    rows = [
        Utterance(tmp_path / "a.wav", 1.25, "fünf\u2028 six", "x", offset=2.5),
        Utterance(tmp_path / "a.wav", 1.25, None, ""),
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    assert read_manifest(tmp_path / "m.jsonl") == rows


def test_words_are_single_spaced() -> None:
    assert single_spaced(" one\t\ntwo\u3000three\xa0 ") == "one two three"


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "one", "text": "two"}\n')
    with pytest.raises(DataError, match=r"m\.jsonl:1: the key 'text' stands twice"):
        read_manifest(path)

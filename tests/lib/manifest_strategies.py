"""Manifests for hypothesis to draw: right ones, and those that people and programs get wrong."""

from __future__ import annotations

import codecs
import csv
import io
import json

from hypothesis import strategies as st

MARKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\xa0\u3000\ufeff"
words = st.text(st.sampled_from("abc ,;\"'\\\t\n" + MARKS) | st.characters(codec="utf-8"))
transcripts = words.map(lambda text: text.replace("\r", " "))
"""Transcripts with everything that a manifest can hold, but a carriage return."""
times = st.none() | st.sampled_from(
    [0, 0.2, 0.5, 1, 2.0, -1, 1e300, 10**400, "0.5", "x", [], True, float("nan"), float("inf")]
)
odd_paths = ["", ".", "\0", "a\nb", "\ud800", "x" * 5000, "no.wav", "nan.wav", "a.raw"]
paths = st.sampled_from(["a.wav", "./a.wav", "sub\\b.wav", *odd_paths])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | paths,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
rows = st.fixed_dictionaries(
    {"audio_filepath": paths | anything},
    optional={
        "text": words | anything,
        "duration": times | anything,
        "offset": times | anything,
        "speaker": words | anything,
    },
)
likely_rows = st.fixed_dictionaries(
    {"audio_filepath": st.sampled_from(["a.wav", "sub\\b.wav"])},
    optional={"text": st.none() | words, "duration": times, "offset": times},
)
lines = (
    (likely_rows | rows | anything).map(json.dumps)
    | words
    | st.just("[" * 5000)
    | st.just("1" * 5000)
)


def encoded(text: str, encoding: str, *, mark: bool) -> bytes:
    """A text in some encoding, with or without a byte order mark."""
    data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
    return codecs.BOM_UTF8 + data if mark else data


ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\x85"])
encodings = st.sampled_from(["utf-8"] * 6 + ["utf-16", "latin-1"])
texts = st.builds(lambda end, all_: end.join(all_), ends, st.lists(lines, max_size=5))
odd_jsonl = st.builds(encoded, texts, encodings, mark=st.booleans()) | st.binary(max_size=60)

fields = st.sampled_from(["a.wav", "sub\\b.wav", '"a.wav"', '"', '""', "", "x" * 140_000]) | words
heads = st.sampled_from(
    ["wav_filename,wav_filesize,transcript"] * 6
    + ["wav_filename;wav_filesize;transcript", "transcript,wav_filename", "wav_filename", ""]
)
csv_lines = st.lists(fields, max_size=4).map(",".join)
csv_texts = st.builds(
    lambda end, head, all_: end.join([head, *all_]), ends, heads, st.lists(csv_lines, max_size=5)
)
odd_csv = st.builds(encoded, csv_texts, encodings, mark=st.booleans()) | st.binary(max_size=60)


def as_csv(rows: list[str], end: str) -> str:
    """A DeepSpeech CSV with these transcripts, as a spreadsheet writes it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end)
    writer.writerow(["wav_filename", "wav_filesize", "transcript"])
    writer.writerows([f"{i}.wav", 1, row] for i, row in enumerate(rows))
    return text.getvalue()

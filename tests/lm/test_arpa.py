"""ARPA files as people have them, what is refused, and that what is written comes back."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from small_ngrams import as_dictionary, random_model, same

from tinyvox.errors import FileError
from tinyvox.lm import NGrams, read_arpa, write_arpa
from tinyvox.progress import Update

TEXT = """\
Made by somebody.

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.5
-0.75\t</s>
-0.5\ta\t-0.25
-0.625\tb\t0.125

\\2-grams:
-0.25\t<s> a\t-0.5
-0.5\ta b\t-0.125
-0.125\tb </s>

\\3-grams:
-0.0625\t<s> a b

\\end\\
"""


def read(tmp_path: Path, text: str | bytes) -> NGrams:
    path = tmp_path / "model.arpa"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_arpa(path)


def test_every_number_is_where_it_belongs(tmp_path: Path) -> None:
    model = read(tmp_path, TEXT)
    assert model.words == ("<unk>", "<s>", "</s>", "a", "b")
    assert as_dictionary(model) == {
        (0,): (-1.5, 0),
        (1,): (-99, -0.5),
        (2,): (-0.75, 0),
        (3,): (-0.5, -0.25),
        (4,): (-0.625, 0.125),
        (1, 3): (-0.25, -0.5),
        (3, 4): (-0.5, -0.125),
        (4, 2): (-0.125, 0),
        (1, 3, 4): (-0.0625, 0),
    }


FORMS: dict[str, Callable[[str], bytes]] = {
    "spaces": lambda text: text.replace("\t", " ").encode(),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines": lambda text: text.replace("\n-", "\n\n-").encode(),
    "no blank lines": lambda text: re.sub("\n+", "\n", text).encode(),
    "no last line end": lambda text: text.rstrip().encode(),
    "zero back-offs": lambda text: re.sub("(?m)(<unk>|</s>|<s> a b)$", r"\1\t0", text).encode(),
    "spaces around =": lambda text: re.sub("(ngram .)=", r"\1 = ", text).encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "xz": lambda text: lzma.compress(text.encode()),
    "bzip2": lambda text: bz2.compress(text.encode()),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_files_as_people_have_them(tmp_path: Path, form: str) -> None:
    same(read(tmp_path, FORMS[form](TEXT)), read(tmp_path, TEXT))


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: found no line \\data\\"),
        (TEXT[: TEXT.index("\\end")], r":\d+: found the end of the file, expected \\end\\"),
        (changed("ngram 2=3", "ngram 2=4"), r":5: announces 4 2-grams, found 3; correct"),
        (changed("ngram 2=3", "ngram 2=2"), r":5: announces 2 2-grams, found 3 or more"),
        (changed("ngram 2=3", "ngram 4=3"), r":5: found 'ngram 4=3', expected n-grams of 2 words"),
        (changed("ngram 2=3", "ngram 2=3333333333"), r":5: .*at most 268,435,456"),
        (changed("ngram 1=5\nngram 2=3\nngram 3=1\n", ""), r"expected a line such as ngram 1="),
        (changed("\\2-grams:", "\\3-grams:"), r":15: found '.*3-grams:', expected \\2-grams:"),
        (changed("a b\t", "b </s>\t"), r":18: the n-gram is there twice"),
        (changed("\tb\t0.125", "\ta\t0.125"), r":13: the word 'a' is there twice"),
        (changed("\tb\t0.125", "\tb\0c\t0.125"), r":13: found 'b.x00c', expected a word without"),
        (changed("<s> a\t-0.5", "<s> c\t-0.5"), r":16: 'c' is not among the unigrams"),
        (changed("-0.5\ta b", "x\ta b"), r":17: found 'x a b -0.125', expected log10"),
        (changed("-0.5\ta b", "nan\ta b"), r":17: found 'nan a b -0.125', expected log10"),
        (changed("-0.5\ta b", "0.5\ta b"), r":17: .*at most 0"),
        (changed("-0.125\tb </s>", "-0.125\tb"), r":18: found '-0.125 b', .*2 words"),
        (changed("-0.125\tb </s>", "-0.125\tb </s> 0 0 0"), r":18: found"),
        (gzip.compress(TEXT.encode())[:-30], r"is cut off"),
        (b"\xfd7zXZ\0 and then nonsense", r"cannot be decompressed"),
        ("\\data\\\nngram 1=1\n\\1-grams:\n" + "-1 " + "a" * 3_000_000, "a line of over"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(FileError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [1, 2, 4])
def test_what_is_written_comes_back(tmp_path: Path, length: int) -> None:
    model = random_model(words=9, length=length, seed=length)
    write_arpa(model, tmp_path / "model.arpa")
    same(read_arpa(tmp_path / "model.arpa"), model)


def test_missing_special_words_are_added(tmp_path: Path) -> None:
    model = read(tmp_path, "\\data\\\nngram 1=2\n\\1-grams:\n-1 a\n-2 <UNK>\n\\end\\\n")
    assert model.words == ("<unk>", "<s>", "</s>", "a")
    assert model.orders[0].log10.tolist() == [-2, -99, -99, -1]
    assert read(tmp_path, "\\data\\\nngram 1=0\n\\1-grams:\n\\end\\\n").orders[0].log10[0] == -100


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    text = b"\\data\\\nngram 1=2\n\\1-grams:\n-1 \xff\xc2\n-2 \xc2\xa0\n\\end\\\n"
    model = read(tmp_path, text)
    assert model.words[3:] == ("\udcff\udcc2", "\xa0")
    write_arpa(model, tmp_path / "again.arpa")
    same(read_arpa(tmp_path / "again.arpa"), model)


def test_contexts_that_are_missing_get_the_probability_that_they_have_anyway(
    tmp_path: Path,
) -> None:
    whole = read(tmp_path, TEXT)
    text = changed("-0.25\t<s> a\t-0.5\n", "").replace("ngram 2=3", "ngram 2=2")
    model = read(tmp_path, text)
    assert model.counts == whole.counts
    place = model.find(np.array([[1, 3]]))[0]
    assert model.orders[1].log10[place] == pytest.approx(-0.5 - 0.5)
    assert model.orders[1].backoff[place] == 0
    longest = model.find(np.array([[1, 3, 4]]))
    assert model.orders[2].log10[longest] == np.float32(-0.0625)


def test_contexts_of_contexts_may_be_missing_too(tmp_path: Path) -> None:
    text = changed("-0.25\t<s> a\t-0.5\n-0.5\ta b\t-0.125\n-0.125\tb </s>\n", "")
    text = text.replace("ngram 2=3", "ngram 2=0").replace("ngram 3=1", "ngram 3=0\nngram 4=1")
    text = text.replace("\\end\\", "\\4-grams:\n-0.5 <s> a b b\n\\end\\").replace(
        "-0.0625\t<s> a b\n", ""
    )
    model = read(tmp_path, text)
    assert model.counts == (5, 1, 1, 1)
    assert model.find(np.array([[1, 3, 4, 4]])).tolist() == [0]
    assert model.orders[2].log10[0] == pytest.approx(-0.625 - 0.25, abs=1e-6)


def test_progress_goes_to_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.arpa"
    count = 200_000
    lines = "".join(f"-5.25 w{i}\n" for i in range(count))
    path.write_text(f"\\data\\\nngram 1={count}\n\\1-grams:\n{lines}\\end\\\n")
    updates: list[Update] = []
    model = read_arpa(path, updates.append)
    assert model.counts == (count + 3,)
    assert updates[-1].done == updates[-1].total == path.stat().st_size // 10**6
    assert len(updates) > 2


Change = tuple[int, int, bytes]


def changes() -> st.SearchStrategy[Change]:
    """Where; how many bytes go; which come."""
    words = r"\end\ \data\ -inf nan 1e999 99999999999 ngram 3= = \ " + "\0"
    pieces = [*(word.encode() for word in words.split()), b"\n", b"\r", b"\t", b"\xff", b" "]
    new = st.one_of(st.binary(max_size=4), st.sampled_from(pieces))
    return st.tuples(st.integers(0, len(TEXT)), st.integers(0, 12), new)


@examples(400)
@given(change=st.lists(changes(), min_size=1, max_size=4))
def test_hostile_files_end_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, change: list[Change]
) -> None:
    data = TEXT.encode()
    for place, gone, new in change:
        data = data[:place] + new + data[place + gone :]
    path, said = tmp_path_factory.mktemp("hostile") / "model.arpa", ""
    path.write_bytes(data)
    try:
        read_arpa(path)
    except FileError as error:
        said = str(error)
    assert not said or said.startswith(f"{path}:")
    assert len(said.splitlines()) <= 1

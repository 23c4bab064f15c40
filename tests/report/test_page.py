"""The page, read back: every number is that of the JSON, every area and point in its place."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page, check_numbers, described, scored, timed

from tinyvox.errors import DataError
from tinyvox.records import Result
from tinyvox.report import page, write_report
from tinyvox.report import page as page_module

TEMPLATES = Path(page_module.__code__.co_filename).parent / "templates"


def made(folder: Path, *facts: dict[str, Any], chosen: str | None = None) -> str:
    given = json.loads(json.dumps(facts))
    return page([Result(str(i), folder, each) for i, each in enumerate(given)], folder, chosen)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sound & light").mkdir()
    for name in ("x.wav", "y.wav"):
        (tmp_path / name).touch()
    return tmp_path


def test_every_number_is_that_of_the_json(folder: Path) -> None:
    facts = [described(), scored(), timed()]
    found = Page(made(folder, *facts))
    assert check_numbers(found, facts) >= 30
    places = {attributes["data-at"] for attributes, _ in found.numbers}
    assert {"0:file_bytes", "0:ratio", "1:wer", "1:original.wer", "2:speedup"} <= places
    assert {"0:matrices.0.rank", "0:matrices.0.loss_share", "0:stages.2.bytes"} <= places


def test_areas_are_the_bytes(folder: Path) -> None:
    facts = described()
    boxes = Page(made(folder, facts)).of_class("box")
    areas = [_area(box["style"]) for box in boxes]
    by_layer = [b for b in boxes if b["class"].split()[1] in ("coded", "dense", "vector", "other")]
    by_layer = by_layer[:5]
    rows = facts["tensors"] + facts["overhead"]
    assert sorted(float(b["data-bytes"]) for b in by_layer) == sorted(r["bytes"] for r in rows)
    for box, area in zip(boxes[:5], areas[:5], strict=True):
        assert area == pytest.approx(1e4 * float(box["data-bytes"]) / facts["file_bytes"], rel=1e-3)


def test_areas_are_what_became_of_the_original(folder: Path) -> None:
    facts = described(size=600)
    boxes = Page(made(folder, facts)).of_class("box")[5:]
    total = sum(float(box["data-bytes"]) for box in boxes)
    gone: dict[str, float] = {}
    for box in boxes:
        assert _area(box["style"]) == pytest.approx(
            1e4 * float(box["data-bytes"]) / total, rel=1e-3
        )
        kind = box["class"].split()[1]
        gone[kind] = gone.get(kind, 0) + float(box["data-bytes"])
    assert gone == {"pruned": 1320, "factored": 560, "coded": 240, "left": 600}
    titles = " ".join(box["title"] for box in boxes)
    assert "one.weight, pruned: 1,200 bytes" in titles  # 10 of 20 rows of 30 float32 values
    assert "everything else, left: 120 bytes" in titles  # the vector and the header
    assert total == facts["original_bytes"] + 80  # of the header, which the original had not


def _area(style: str) -> float:
    sides = dict(re.findall(r"(\w+):([\d.]+)%", style))
    return float(sides["width"]) * float(sides["height"])


def test_utterances_are_sorted_by_harm_and_can_be_heard(folder: Path) -> None:
    text = made(folder, described(), scored())
    rows = [a for tag, a in Page(text).elements if tag == "li" and "data-harm" in a]
    assert [(row["data-harm"], row["data-speaker"]) for row in rows] == [
        ("2", "s2"),
        ("0", "s1"),
        ("-1", "s1"),
    ]
    heard = [a["data-audio"] for tag, a in Page(text).elements if "data-audio" in a]
    assert heard == ["y.wav", "x.wav"]
    assert "audio not found" in text  # z.wav
    assert "&lt;b&gt;" in text  # what a model hears is text
    assert "<option>s1</option><option>s2</option>" in text


def test_a_stretch_of_audio_and_odd_names_have_their_address(folder: Path) -> None:
    (folder / "a #1.wav").touch()
    facts = scored()
    facts["transcripts"] = [
        facts["transcripts"][0] | {"audio_filepath": "a #1.wav", "offset": 1.5, "duration": 2.0}
    ]
    given = [Result("", folder, facts)]
    assert 'data-audio="../a%20%231.wav#t=1.5,3.5"' in page(given, folder / "sound & light")


HOSTILE = "\"'></script><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_names_and_texts_are_never_markup(folder: Path) -> None:
    facts = scored()
    facts["record"]["asked"]["model"] = HOSTILE
    for row in facts["transcripts"]:
        row |= dict.fromkeys(("audio_filepath", "speaker", "reference", "text"), HOSTILE)
    found = Page(made(folder, described(HOSTILE), facts, described(HOSTILE, 900, "b")))
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not any(name.startswith("on") for _, each in found.elements for name in each)


def test_a_name_that_is_no_unicode_is_shown_and_can_be_heard(folder: Path) -> None:
    name = os.fsdecode(b"\xff.wav")
    (folder / name).touch()
    facts = scored()
    facts["transcripts"][0]["audio_filepath"] = name
    text = made(folder, facts)
    assert 'data-audio="%FF.wav"' in text
    assert "\\udcff.wav" in text


def test_left_in_float_has_its_reason_and_the_recipe_is_there(folder: Path) -> None:
    text = made(folder, described())
    assert "<strong>out.weight</strong>: too small to be worth it" in text
    assert "method: entropy" in text
    assert "tinyvox compress a.pt2 -o a.tvx --ratio 2.6" in text


def test_results_stand_side_by_side(folder: Path) -> None:
    facts = [described("b.tvx", 900, "b"), scored(0.3, "b"), described(), scored(), timed()]
    text = made(folder, *facts, chosen="b.tvx")
    found = Page(text)
    check_numbers(found, facts)
    points = found.of_class("point")
    assert [point["data-cost"] for point in points] == ["0:file_bytes", "2:file_bytes"]
    assert ["chosen" in point["class"] for point in points] == [True, False]
    for point in points:
        assert float(re.findall(r"left:([\d.]+)%", point["style"])[0]) > 0
        assert point["aria-label"]
    with pytest.raises(DataError, match=r"--chosen c: found no such result, expected one of b"):
        made(folder, *facts, chosen="c")


def test_many_results_have_chapters_for_the_best_alone(folder: Path) -> None:
    facts = []
    for i in range(20):
        facts += [described(f"{i}.tvx", 1000 + i, str(i)), scored(0.2 + i / 100, str(i))]
    text = made(folder, *facts)
    found = Page(text)
    assert len([a for tag, a in found.elements if tag == "section"]) == 1
    assert "The other 19 results have no chapter here" in text
    assert len(found.of_class("point")) == 20


def test_a_page_stays_below_two_megabytes(folder: Path) -> None:
    facts = []
    row = scored()["transcripts"][1] | {"reference": "word " * 20, "text": "world " * 20}
    for i in range(8):
        facts += [described(f"{i}.tvx", 1000 + i, str(i)), scored(0.2, str(i))]
        facts[-1]["transcripts"] = [row] * 5000
    text = made(folder, *facts)
    assert len(text.encode()) < 2_000_000
    assert "75 of 5000 utterances are shown" in text


def test_there_is_nothing_from_a_network_and_pictures_have_words(folder: Path) -> None:
    text = made(
        folder, described(), scored(), timed(), described("b.tvx", 900, "b"), scored(0.3, "b")
    )
    assert not re.search(r"https?://|@import|url\(", text)
    found = Page(text)
    assert not [tag for tag, a in found.elements if tag in ("link", "script", "img") and "src" in a]
    pictures = [a for _, a in found.elements if a.get("role") in ("img", "group")]
    assert pictures
    assert all(len(a["aria-label"]) > 20 for a in pictures)
    hidden = [a for tag, a in found.elements if tag == "svg"]
    assert all(a["aria-hidden"] == "true" for a in hidden)
    assert all(a.get("type") == "button" for tag, a in found.elements if tag == "button")
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for tag, a in found.elements if tag == "a"}
    assert targets <= set(ids)


def test_a_result_of_an_older_version_has_a_page(folder: Path) -> None:
    old = described()
    for key in ("stages", "matrices", "notes", "recipe", "record"):
        del old[key]
    check_numbers(Page(made(folder, old)), [old])


def test_the_page_is_written_whole(folder: Path) -> None:
    write_report([Result("a", folder, described())], folder / "r.html")
    assert (folder / "r.html").read_text(encoding="utf-8").endswith("</html>")


# Contrast (WCAG 2: 4.5 to 1 for text).

PAIRS = [
    *((text, "page") for text in ("text", "quiet", "accent", "good", "bad")),
    *((text, "panel") for text in ("text", "quiet")),
    *(("on-color", kind) for kind in "coded dense vector other pruned factored left".split()),
    ("mark-text", "mark"),
]


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_stand_out_from_what_is_behind(theme: int) -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    colors = dict(
        re.findall(r"--([\w-]+): (#\w{6})", re.findall(r":root \{(.*?)\}", style, re.S)[theme])
    )
    for text, behind in PAIRS:
        high, low = sorted((_luminance(colors[name]) for name in (text, behind)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)

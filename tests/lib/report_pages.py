"""What a page of a report holds, read back, and small results to make one of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from tinyvox.report.values import look_up

SCALES = {"%": 100.0, "points": 100.0, "MB": 1e-6, "kB": 1e-3}
Attributes = dict[str, str]


class Page(HTMLParser):
    """The elements of a page: the numbers with their texts, and the attributes of all others."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[Attributes, str]] = []
        self.elements: list[tuple[str, Attributes]] = []
        self._open: Attributes | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        self._open = found if tag == "data" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.numbers.append((self._open, data))
            self._open = None

    def of_class(self, name: str) -> list[Attributes]:
        return [a for _, a in self.elements if name in a.get("class", "").split()]


def check_numbers(page: Page, results: Sequence[dict[str, Any]]) -> int:
    """Assert that each number of a page stands in the JSON, that its text says the same to the last
    digit, and return how many there are."""
    for attributes, text in page.numbers:
        index, _, path = attributes["data-at"].partition(":")
        value = look_up(results[int(index)], path)
        assert float(attributes["value"]) == value, attributes
        shown = re.fullmatch(r"([+-]?[\d,.]+(?:e[+-]?\d+)?) ?(\D*)", text)
        assert shown, text
        scale = SCALES.get(shown[2], 1.0)
        digits = shown[1].replace(",", "")
        mantissa, _, power = digits.partition("e")
        half = 0.5 * 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        if "." not in mantissa and power == "" and value * scale != round(value * scale):
            half = max(half, 0.005 * abs(value * scale))  # three digits, as in 123
        assert abs(float(digits) - value * scale) <= half * 1.000001, (attributes, text)
    return len(page.numbers)


def described(
    name: str = "a.tvx", size: int = 1000, digest: str = "a", **more: Any
) -> dict[str, Any]:
    """The facts of a file with one product of 20 x 30, of which pruning left 10 x 30."""
    tensors = [
        {"name": "one.weight.left", "shape": [10, 4], "kind": "coded", "bits_per_weight": 20.0,
         "bytes": 100, "coded_bits": 3.0},
        {"name": "one.weight.right", "shape": [4, 30], "kind": "coded", "bits_per_weight": 20.0,
         "bytes": 300, "coded_bits": 4.0},
        {"name": "one.bias", "shape": [10], "kind": "vector", "bits_per_weight": 32.0, "bytes": 40},
        {"name": "out.weight", "shape": [2, 10], "kind": "dense", "bits_per_weight": 32.0,
         "bytes": 80},
    ]  # fmt: skip
    matrices = [
        {"name": "one.weight", "shape": [10, 30], "original_shape": [20, 30], "rank": 4,
         "coded_bits": 3.75, "weights": 160, "bytes": 400, "relative_mse": 0.123, "loss": 0.5,
         "loss_share": 1.0},
        {"name": "out.weight", "shape": [2, 10], "original_shape": [2, 20], "rank": None,
         "coded_bits": None, "weights": 20, "bytes": 80, "relative_mse": None, "loss": None,
         "loss_share": None},
    ]  # fmt: skip
    rest = size - sum(row["bytes"] for row in tensors)
    return {
        "file": name, "file_bytes": size, "original_bytes": 2640, "ratio": 2640 / size,
        "parameters": 190, "tensors": tensors, "left_float": ["out.weight"],
        "overhead": [{"name": "header", "shape": None, "kind": "section", "bits_per_weight": None,
                      "bytes": rest}],
        "stages": [{"name": "original", "bytes": 2640}, {"name": "pruned", "bytes": 1320},
                   {"name": "factored", "bytes": 760}, {"name": "coded", "bytes": size}],
        "matrices": matrices,
        "notes": [{"layer": "out", "what": "too small to be worth it"}],
        "recipe": {"steps": [{"quantize": {"method": "entropy", "bits": 3.0}}]},
        "record": record("compress", digest, {"model": "a.pt2", "output": name, "ratio": 2.6}),
    } | more  # fmt: skip


def scored(wer: float = 0.25, digest: str = "a", **more: Any) -> dict[str, Any]:
    """Error rates on three utterances: one is harmed, one is helped, one is as it was."""
    transcripts = [
        {"audio_filepath": "x.wav", "speaker": "s1", "reference": "one two", "text": "one two",
         "word_edits": 0, "words": 2, "original_text": "one too", "original_word_edits": 1},
        {"audio_filepath": "y.wav", "speaker": "s2", "reference": "three four", "text": "tree <b>",
         "word_edits": 2, "words": 2, "original_text": "three four", "original_word_edits": 0},
        {"audio_filepath": "z.wav", "speaker": "s1", "reference": "five", "text": "", "words": 1,
         "word_edits": 1, "original_text": "", "original_word_edits": 1},
    ]  # fmt: skip
    return {
        "wer": wer, "cer": 0.1, "wer_interval": [wer - 0.05, wer + 0.05], "utterances": 3,
        "seconds": 0.5, "rtf": 0.01, "original": {"wer": 0.2, "cer": 0.09}, "wer_change": wer - 0.2,
        "wer_change_interval": [wer - 0.25, wer - 0.15], "transcripts": transcripts,
        "record": record("eval", digest, {"model": "a.tvx", "data": "d.jsonl"}),
    } | more  # fmt: skip


def timed(milliseconds: float = 0.25, digest: str = "a") -> dict[str, Any]:
    """The speed of a file."""
    return {
        "ms_per_frame": milliseconds, "rtf": 0.01, "isa": "scalar", "threads": 1,
        "original_ms_per_frame": 1.0, "speedup": 1.0 / milliseconds,
        "record": record("bench", digest, {"model": "a.tvx"}),
    }  # fmt: skip


def record(command: str, digest: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Where a result comes from."""
    return {
        "schema_version": 1, "command": command, "asked": asked,
        "hashes": {"file": digest, "data": "d"}, "created": "2026-01-02T03:04:05+00:00",
        "seconds": 1.5, "versions": {"tinyvox": "0.1.0", "python": "3.11.0"},
        "machine": {"system": "Linux", "processor": "p", "cores": 2, "memory_bytes": 8 * 10**9},
    }  # fmt: skip

"""What a person sees: numbers are never cut, progress is a line with facts."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from tinyvox.cli.output import print_next_steps, print_sizes
from tinyvox.cli.progress_display import PlainLines, line_of, shown
from tinyvox.progress import Update


def facts(name: str = "lstm.forward.weight_hh.right") -> dict[str, Any]:
    """A file with a matrix of a long name, a vector, twelve layers and a section."""
    matrix = {
        "name": name, "shape": [8192, 2048], "kind": "coded", "bits_per_weight": 2.129,
        "bytes": 12_345_678, "method": "entropy", "code_bits": 6, "coded_bits": 2.1,
        "relative_mse": 0.0123,
    }  # fmt: skip
    vector = {"name": "lstm.forward.bias", "shape": [8192], "kind": "vector",
              "bits_per_weight": 16.03, "bytes": 16_411}  # fmt: skip
    layer = {"shape": None, "kind": "layer", "bits_per_weight": None, "bytes": 20}
    section = {"name": "header", "shape": None, "kind": "section", "bits_per_weight": None,
               "bytes": 100}  # fmt: skip
    tensors = [matrix, vector]
    overhead = [*({**layer, "name": f"layer{i}"} for i in range(12)), section]
    total = sum(row["bytes"] for row in tensors + overhead)
    return {
        "file": "x.tvx", "file_bytes": total, "original_bytes": 67_108_864, "ratio": 5.4,
        "parameters": 16_785_408, "tensors": tensors, "overhead": overhead, "left_float": [],
        "source": None,
        "exported_frames": None,
        "quantized": False,
        "judged_by": "the distance of the outputs",
        "import_notes": [],
    }  # fmt: skip


def printed(width: int, **options: bool) -> str:
    out = io.StringIO()
    print_sizes(facts(), Console(file=out, width=width), **options)
    return out.getvalue()


def test_no_number_is_cut_in_80_columns_nor_in_60() -> None:
    for width in (80, 60):
        text = printed(width)
        assert "…" not in text
        assert "..." not in text
        for number in ("12,345,678", "16,411", "16.03", "2.13", "2.10", "0.012", "12,362,429"):
            assert number in text, (width, number)
        assert max(map(len, text.splitlines())) <= width


def test_a_long_name_is_whole_once_its_lines_are_joined() -> None:
    lines = [line.split("  ")[0].strip() for line in printed(80).splitlines()]
    assert "lstm.forward.weight_hh.right" in "".join(lines)


@pytest.mark.parametrize(
    ("source", "advice"), [("m.pt2", "tinyvox.from_torch"), ("m.onnx", "convert the model anew")]
)
def test_the_advice_on_numbers_of_frames_fits_the_file(source: str, advice: str) -> None:
    out = io.StringIO()
    print_sizes(facts() | {"source": source, "exported_frames": 8}, Console(file=out, width=80))
    assert f"were not compared; {advice}" in " ".join(out.getvalue().split())


def test_layers_are_one_line_unless_all_are_asked_for() -> None:
    text = printed(80)
    assert re.search(r"headers of 12 layers .* 240\b", text)
    assert "layer7" not in text
    assert len(re.findall(r"\blayer\d+\b", printed(80, verbose=True))) == 12


def test_a_line_of_progress_tells_stage_step_best_and_time() -> None:
    update = Update("planning", 3, 12, best_bytes=250_123, best_loss=0.0123)
    assert line_of(update, 32.0) == (
        "planning: 3 of 12, best 250,123 bytes at a divergence of 0.0123, 0:32 gone, 1:36 left"
    )
    assert line_of(Update("fine-tuning", 50, 400, best_loss=1.25), 75.0) == (
        "fine-tuning: 50 of 400, loss 1.25, 1:15 gone, 8:45 left"
    )
    assert line_of(Update("calibrating", 7), 3661.0) == "calibrating: 7, 61:01 gone"


def test_elsewhere_than_on_a_terminal_there_is_a_line_every_ten_seconds() -> None:
    out, now = io.StringIO(), [0.0]
    lines = PlainLines(Console(file=out, width=80), clock=lambda: now[0])
    for second in range(36):
        now[0] = float(second)
        lines(Update("planning", second, 40))
    assert out.getvalue().splitlines() == [
        "planning: 10 of 40, 0:10 gone, 0:30 left",
        "planning: 20 of 40, 0:20 gone, 0:20 left",
        "planning: 30 of 40, 0:30 gone, 0:10 left",
    ]


def test_on_a_terminal_one_live_line_shows_the_stage_and_is_gone_at_the_end() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, legacy_windows=False)
    with shown(console) as progress:
        progress(Update("calibrating", 1, 4))
        progress(Update("planning", 2, 9, best_bytes=1234, best_loss=0.5))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "planning" in text
    assert "2/9" in text
    assert "best 1,234 bytes" in text
    assert out.getvalue().rstrip().endswith(("\x1b[2K", "\x1b[?25h\r\x1b[1A\x1b[2K"))


def test_the_next_commands_can_be_copied() -> None:
    from pathlib import Path

    out = io.StringIO()
    long = Path("a" * 90 + ".pt2")
    print_next_steps(long, Path("s.tvx"), True, Console(file=out, width=80))
    assert out.getvalue().splitlines() == [
        "What to do next:",
        f"  tinyvox eval s.tvx --data TEST.jsonl --against {long}",
        "  tinyvox transcribe s.tvx AUDIO.wav",
    ]

"""Put the npm package and the page together: build.py FOLDER, where tinyvox.wasm was built.

FOLDER/package is the package `@tinyvox/web`, FOLDER/site the page with the models of the
repository. Needs Python alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent

COMMANDS = "Digits, spelled letters, numbers, dates, command words."

MODELS = {
    "commands/commands-60x.tvx": ("Commands, 60 times smaller", COMMANDS, "en"),
    "commands/commands-100x.tvx": ("Commands, 100 times smaller", COMMANDS, "en"),
    "armspeech/armspeech-50x.tvx": ("Armenian, 50 times smaller", "Any Armenian speech.", "hy"),
    "armspeech/armspeech-100x.tvx": ("Armenian, 100 times smaller", "Any Armenian speech.", "hy"),
}
"""Of `models/`, with the name, what the model understands, and its language."""

TESTS = {
    "digits": "strings of five digits",
    "an4": "AN4 test",
    "commands": "command words",
}
"""The parts of a row of `bench/results/commands.json`."""


def main(folder: Path) -> None:
    """Write both folders anew."""
    package, site = folder / "package", folder / "site"
    for made in (package, site):
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(HERE / "lib", made / "lib")
        shutil.copy(folder / "tinyvox.wasm", made / "lib")
    for name in ("package.json", "README.md"):
        shutil.copy(HERE / name, package)
    shutil.copy(ROOT / "LICENSE", package)
    shutil.copytree(HERE / "page", site, dirs_exist_ok=True)
    (site / "models").mkdir()
    for file in MODELS:
        shutil.copy(ROOT / "models" / file, site / "models")
    listed = json.dumps([described(file) for file in MODELS], indent=1)
    (site / "models.json").write_text(listed + "\n", encoding="utf-8")


def described(file: str) -> dict[str, Any]:
    """What the page shows of a model. Its size tells which measured file it is."""
    path = ROOT / "models" / file
    size = path.stat().st_size
    name, about, language = MODELS[file]
    tests = [*commands_tests(size), *deepspeech_tests(size)]
    if not tests:
        raise SystemExit(f"{path}: no row of bench/results has {size} bytes; measure it again")
    said = {"name": name, "about": about, "language": language}
    return {"file": path.name, **said, "bytes": size, "tests": tests}


def rows(name: str, part: str) -> list[dict[str, Any]]:
    """A part of the results of a benchmark."""
    text = (ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(text)["rows"][part]
    return found


def commands_tests(size: int) -> list[dict[str, Any]]:
    """The error rates of a commands model, on each test set."""
    return [
        tested("WER", name, row[part]["wer"], row[part]["wer_interval"], row[part]["utterances"])
        for row in rows("commands", "errors")
        if row["bytes"] == size
        for part, name in TESTS.items()
    ]


def deepspeech_tests(size: int) -> list[dict[str, Any]]:
    """The error rates of an Armenian model."""
    return [
        tested("CER", "Armenian sentences", row["cer"], row["cer_interval"], row["utterances"])
        for row in rows("deepspeech", "files")
        if row["bytes"] == size
    ]


def tested(
    measure: str, name: str, rate: float, interval: list[float], utterances: int
) -> dict[str, Any]:
    """A row of the page's table."""
    return {
        "measure": measure,
        "name": name,
        "rate": rate,
        "interval": interval,
        "utterances": utterances,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))

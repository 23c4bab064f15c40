"""Speech by espeak-ng for the commands model: sentences to train on, and the bundled clips.

    python synthesize.py train OUT_DIR [--hours 2.5] [--seed 0] [--workers 2]
    python synthesize.py clips OUT_DIR

Both write audio and `manifest.jsonl`. The clips are spoken by voices that training never hears.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import subprocess
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16000
MEAN_SECONDS = 2.15  # of a training utterance, measured
LANGUAGES = ("en-us", "en-us", "en-us-nyc", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029")
TRAIN_VARIANTS = (
    "m1 m2 m3 m5 m6 m8 f1 f3 f4 f5 Alex Alicia Andrea Andy Annie Denis Gene Lee Mario Michael Mike "
    "aunty belinda benjamin david edward grandma grandpa john klatt klatt2 linda max paul "
    "quincy rob robert sandro shelby travis zac"
).split()
RESERVED_VOICES = ("en-us+m7", "en-us+f2", "en-gb+m4", "en-gb+m7", "en-us+victor", "en-gb+f2")
"""Heard in the bundled clips alone: no variant of theirs is trained on, in any accent."""

DIGITS = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MONTHS = (
    "january february march april may june july august september october november december"
).split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth"
).split()
LATE_DAYS = [*(f"twenty {ordinal}" for ordinal in ORDINALS[:9]), "thirty first"]
DAY_NUMBERS = [*DIGITS[1:], *TEENS, "twenty", *(f"twenty {d}" for d in DIGITS[1:]), "thirty"]
COMMANDS = "yes no up down left right on off stop go".split()
CONTROLS = "erase help start stop repeat yes no go enter rubout half".split()
NAMES = (
    "christopher nicole cindy mark steven philip douglas trenton elgin pittsburgh glenshaw mary "
    "james robert patricia john jennifer michael linda david elizabeth william barbara richard "
    "susan joseph jessica thomas sarah charles karen daniel lisa matthew nancy anthony betty "
    "donald sandra paul emily joshua andrew michelle kenneth kevin carol brian amanda george "
    "melissa edward deborah ronald timothy rebecca jason laura jeffrey helen ryan sharon jacob "
    "smith johnson williams brown jones garcia miller davis wilson anderson taylor moore jackson "
    "martin lee thompson white harris clark lewis robinson walker young allen king wright scott "
    "torres nguyen hill flores green adams nelson baker hall rivera campbell mitchell carter "
    "phillips evans turner parker collins edwards stewart morris murphy cook rogers morgan "
    "peterson cooper reed bailey bell gomez kelly howard ward cox diaz richardson wood watson "
    "brooks bennett gray hughes price myers long foster sanders ross powell sullivan russell "
    "ortiz jenkins perry butler barnes fisher quincy zimmerman xavier vasquez schultz kowalski "
    "boston chicago denver phoenix dallas seattle portland memphis atlanta houston oakland tulsa "
    "omaha raleigh miami buffalo tampa newark toledo jersey lincoln madison reno quebec juneau "
    "maple oak cedar elm walnut forbes fifth craig beacon hobart wilkins shady bayard dithridge "
    "squirrel vine jackpot zebra quartz fjord waltz glyph vex jumbo wizard kayak joking amaze"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Spoken forms that plain text would not give: the article, and the British zed.
SPOKEN = {"a": "[['eI]]", "z": "[[z'i:]]"}

FORMATS = {".flac": ("FLAC", "PCM_16"), ".opus": ("OGG", "OPUS")}

Audio = NDArray[np.float32]
Random = random.Random
Row = dict[str, Any]
Rule = Callable[[Random], str]


def training_voices() -> list[str]:
    """The voices that speak the training set: every language in every variant."""
    return [f"{language}+{variant}" for language in LANGUAGES for variant in TRAIN_VARIANTS]


def letters(rng: Random, low: int = 1, high: int = 6) -> str:
    """Between `low` and `high` letters, spelled."""
    return " ".join(rng.choice(LETTERS) for _ in range(rng.randint(low, high)))


def spelled(rng: Random) -> str:
    """A name, letter by letter."""
    return " ".join(rng.choice(NAMES))


def apostrophe(rng: Random) -> str:
    """A spelled name like O'Neil."""
    return f"{rng.choice('od')} apostrophe {spelled(rng)}"


def digits(rng: Random, low: int = 1, high: int = 7) -> str:
    """Between `low` and `high` digits; zero is `oh` now and then."""
    words = ["oh" if rng.random() < 0.08 else rng.choice(DIGITS) for _ in range(high)]
    return " ".join(words[: rng.randint(low, high)])


def below_hundred(rng: Random) -> str:
    """A number from 1 to 99 in words."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(DIGITS[1:])
    if kind < 0.4:
        return rng.choice(TEENS)
    tens = rng.choice(TENS)
    return tens if rng.random() < 0.25 else f"{tens} {rng.choice(DIGITS[1:])}"


def number(rng: Random) -> str:
    """A number up to some hundred thousand in words."""
    kind = rng.random()
    if kind < 0.5:
        return below_hundred(rng)
    link = rng.choice([" ", " ", " and "])
    rest = f"{link}{below_hundred(rng)}" if rng.random() < 0.75 else ""
    hundreds = f"{rng.choice(DIGITS[1:])} hundred{rest}"
    if kind < 0.8:
        return hundreds
    tail = rng.choice([hundreds, below_hundred(rng), ""])
    return f"{below_hundred(rng)} thousand {tail}".strip()


def pairs(rng: Random) -> str:
    """Numbers read in pairs, as of a street, a year or a zip code."""
    words = [below_hundred(rng) for _ in range(rng.randint(2, 3))]
    if rng.random() < 0.2:
        words[-1] = f"oh {rng.choice(DIGITS[1:])}"
    return " ".join(words)


def ordinal(rng: Random) -> str:
    """The ordinal of a day of the month."""
    return rng.choice(LATE_DAYS if rng.random() < 0.15 else ORDINALS)


def year(rng: Random) -> str:
    """A year of the twentieth century, or 2000."""
    if rng.random() < 0.1:
        return "two thousand"
    tail = below_hundred(rng)
    return f"nineteen oh {tail}" if tail in DIGITS else f"nineteen {tail}"


def date(rng: Random) -> str:
    """A date as Americans say it."""
    month = rng.choice(MONTHS)
    if rng.random() < 0.3:
        return f"{ordinal(rng)} of {month} {year(rng)}"
    day = ordinal(rng) if rng.random() < 0.7 else rng.choice(DAY_NUMBERS)
    return f"{month} {day} {year(rng)}" if rng.random() < 0.6 else f"{month} {day}"


def census_command(rng: Random) -> str:
    """`rubout g m e f three nine`, `enter six two`, or letters and a number alone."""
    head = rng.choice(["enter", "rubout", "erase", "", ""])
    body = rng.choice(["", letters(rng)]) if head else letters(rng, 2)
    tail = rng.choice([digits(rng, 1, 4), number(rng), below_hundred(rng)])
    return " ".join(part for part in (head, body, tail) if part)


def commands(rng: Random) -> str:
    """One to six command words."""
    count = rng.choice([1, 2, 3, 4, 5, 6])
    return " ".join(rng.choice(COMMANDS) for _ in range(count))


def control(rng: Random) -> str:
    """A control phrase of the census recordings."""
    phrases = [f"area code {digits(rng, 3, 3)}", f"{number(rng)} and one half", apostrophe(rng)]
    return rng.choice([*CONTROLS, *phrases])


GRAMMAR: tuple[tuple[float, Rule], ...] = (
    (0.15, spelled),
    (0.09, letters),
    (0.18, census_command),
    (0.15, digits),
    (0.10, commands),
    (0.07, control),
    (0.07, number),
    (0.06, pairs),
    (0.10, date),
    (0.03, ordinal),
)
CLIP_RULES: tuple[Rule, ...] = (digits, commands, spelled, date, number)


def sentence(rng: Random) -> str:
    """A transcript: a-z and single spaces."""
    weights, rules = zip(*GRAMMAR, strict=True)
    rule: Rule = rng.choices(rules, weights)[0]
    return rule(rng)


def spoken(text: str) -> str:
    """What espeak-ng is given, so that it says letters by their names."""
    words = [SPOKEN.get(w, w.upper()) if len(w) == 1 else w for w in text.split()]
    return " ".join(words)


@dataclass(frozen=True)
class Utterance:
    """What to say and how: words a minute, pitch 0 to 99, gap in units of 10 ms."""

    text: str
    voice: str
    speed: int
    pitch: int
    gap: int
    lead: float  # seconds of silence before the first word: espeak-ng gives none

    @property
    def command(self) -> list[str]:
        """The command that speaks it to standard output."""
        # Half of the default amplitude of 100: at 100 the louder variants clip.
        options = {"-v": self.voice, "-s": self.speed, "-p": self.pitch, "-g": self.gap, "-a": 50}
        flags = [str(part) for option in options.items() for part in option]
        return ["espeak-ng", *flags, "--stdout", spoken(self.text)]


def draw(rng: Random, voice: str, rule: Rule = sentence) -> Utterance:
    """An utterance of a voice: a sentence, and how it is spoken."""
    text = rule(rng)
    spelling = any(len(word) == 1 for word in text.split())
    gap = rng.choice([0, 0, 1, 3, 6, 12]) + (rng.choice([2, 6, 12]) if spelling else 0)
    speed, pitch, lead = rng.randint(110, 230), rng.randint(20, 80), rng.uniform(0, 0.3)
    return Utterance(text, voice, speed, pitch, gap, lead)


def render(utterance: Utterance) -> Audio:
    """Samples at 16 kHz, (samples,)."""
    wav = subprocess.run(utterance.command, check=True, capture_output=True).stdout
    audio, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    lead = round(utterance.lead * RATE)
    return np.pad(soxr.resample(audio, rate, RATE), (lead, 0))


def save(utterance: Utterance, audio: Audio, path: Path) -> Row:
    """Write the audio; its line of the manifest."""
    format, subtype = FORMATS[path.suffix]
    soundfile.write(path, audio, RATE, format=format, subtype=subtype)
    duration = round(len(audio) / RATE, 3)
    row = {"audio_filepath": path.name, "duration": duration}
    return {**row, "text": utterance.text, "speaker": utterance.voice}


def speak(utterance: Utterance, path: Path) -> Row:
    """Synthesize an utterance and write it; its line of the manifest."""
    return save(utterance, render(utterance), path)


def train(out: Path, hours: float, seed: int, workers: int) -> list[Row]:
    """Write the training set and its manifest; its lines."""
    rng = Random(seed)
    voices = training_voices()
    paths = [out / f"{i:05d}.flac" for i in range(round(hours * 3600 / MEAN_SECONDS))]
    utterances = [draw(rng, rng.choice(voices)) for _ in paths]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(speak, utterances, paths, chunksize=16))


def clips(out: Path) -> list[Row]:
    """Two clips of each rule by each reserved voice, none too fast or too long to follow.

    The samples are the same in every run; the bytes are not, for an Ogg stream has a random number.
    """
    rng = Random(0)
    rows: list[Row] = []
    for voice, rule, _ in product(RESERVED_VOICES, CLIP_RULES, range(2)):
        utterance, audio = draw_clip(rng, voice, rule)
        rows.append(save(utterance, audio, out / f"{len(rows):02d}.opus"))
    return rows


def draw_clip(rng: Random, voice: str, rule: Rule) -> tuple[Utterance, Audio]:
    """One of the bundled clips: what is said, and how."""
    while True:
        utterance = draw(rng, voice, rule)
        if utterance.speed <= 180:
            audio = render(utterance)
            if 1.5 <= len(audio) / RATE <= 4.0:
                return utterance, audio


def parse() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("train", "clips"):
        commands.add_parser(name).add_argument("out", type=Path)
    training = commands.choices["train"]
    training.add_argument("--hours", type=float, default=2.5)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Write the training set, or the bundled clips."""
    options = parse()
    if shutil.which("espeak-ng") is None:
        sys.exit("synthesize: espeak-ng is not on PATH; install the package espeak-ng")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.what == "train":
        rows = train(out, options.hours, options.seed, options.workers)
    else:
        rows = clips(out)
    manifest = out / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{sum(row['duration'] for row in rows) / 3600:.2f} hours in {manifest}")


if __name__ == "__main__":
    main()

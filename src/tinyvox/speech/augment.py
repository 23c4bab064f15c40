"""Augmentation: an endless stream of random variants of the utterances in some manifests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from tinyvox.errors import DataError
from tinyvox.speech.audio import Audio, read_utterance
from tinyvox.speech.distortions import Codec, clip, encode, limit_band
from tinyvox.speech.manifest import Utterance, check_audio, read_manifest, single_spaced
from tinyvox.speech.settings import Augment, Source
from tinyvox.speech.takes import gate, join_takes, trim_silence


class Drawn(NamedTuple):
    """An augmented utterance, its transcript, and the files that it was made of. `transcribed` is
    False where nobody wrote down what is said; the text is then empty."""

    audio: Audio
    text: str
    paths: tuple[Path, ...]
    transcribed: bool = True


class Corpus:
    """Utterances in memory, as 16-bit samples, from which augmented ones are drawn at random.

    `kept` are the utterances of each source that are drawn, `held` those that are held back. Raises
    DataError where a transcript has a character outside `alphabet`, or where a file cannot be read.
    """

    def __init__(
        self, sources: Sequence[Source], augment: Augment, alphabet: set[str], rate: int
    ) -> None:
        self.sources, self.augment, self.rate = sources, augment, rate
        self.kept: list[list[Utterance]] = []
        self.held: list[Utterance] = []
        for source in sources:
            utterances = read_manifest(source.manifest)
            check_audio(source.manifest, utterances)
            _check_alphabet(source.manifest, utterances, alphabet)
            kept, held = _split(utterances, source.holdout)
            self.kept.append(kept)
            self.held += held
        self._speakers = [_by_speaker(utterances) for utterances in self.kept]
        self._cache: dict[Utterance, NDArray[np.int16] | Audio] = {}
        self._noise = NoiseBank(rate)

    def load(self) -> Iterator[Utterance]:
        """Read every file into memory, and yield the utterance when it has been read."""
        for utterances in self.kept:
            for utterance in utterances:
                self.audio(utterance)
                yield utterance

    def leave_out(self, is_unusable: Callable[[Utterance], bool]) -> None:
        """Draw no more of the utterances for which this is so."""
        self.kept = [[u for u in utterances if not is_unusable(u)] for utterances in self.kept]
        self._speakers = [_by_speaker(utterances) for utterances in self.kept]

    def audio(self, utterance: Utterance) -> Audio:
        """Samples of an utterance. They are read once, then kept in memory."""
        if utterance not in self._cache:
            self._cache[utterance] = _packed(read_utterance(utterance, self.rate))
        kept = self._cache[utterance]
        full_scale = np.float32(32768 if kept.dtype == np.int16 else 1)
        return kept.astype(np.float32) / full_scale

    def draw(self, rng: np.random.Generator) -> Drawn:
        """One augmented utterance; all random numbers come from `rng`."""
        shares = np.array([source.share for source in self.sources])
        which = int(rng.choice(len(shares), p=shares / shares.sum()))
        digital = bool(rng.random() < self.augment.digital_silence_share)
        drawn = self._draw_from(which, rng, digital)
        return drawn._replace(audio=self._augmented(drawn.audio, rng, digital))

    def variant(self, utterance: Utterance, number: int, seed: int) -> Drawn:
        """A variant of an utterance: 0 is as it was recorded, others are augmented, the same each
        time for the same number and seed."""
        audio = self.audio(utterance)
        if number:
            name = f"{utterance.path.name} {utterance.offset} {utterance.duration}"
            place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
            rng = np.random.default_rng([seed, number, place])
            digital = bool(rng.random() < self.augment.digital_silence_share)
            audio = self._augmented(audio, rng, digital)
        known = utterance.transcript is not None
        return Drawn(audio, utterance.spoken, (utterance.path,), known)

    def _draw_from(self, which: int, rng: np.random.Generator, digital: bool) -> Drawn:
        source, utterances = self.sources[which], self.kept[which]
        first = utterances[int(rng.integers(len(utterances)))]
        if source.join is None or rng.random() > source.join_share:
            known = first.transcript is not None
            return Drawn(self.audio(first), first.spoken, (first.path,), known)
        pool = self._speakers[which][first.speaker] if source.join.one_speaker else utterances
        count = int(rng.integers(source.join.count[0], source.join.count[1] + 1))
        takes = [first, *(pool[int(rng.integers(len(pool)))] for _ in range(count - 1))]
        audios = [self.audio(take) for take in takes]
        if source.join.trim:
            audios = [trim_silence(audio, self.rate) for audio in audios]
        silences = rng.uniform(*source.join.silence, count - 1)
        joined = join_takes(audios, list(silences), self.rate, digital)
        text = single_spaced(" ".join(take.spoken for take in takes))
        known = all(take.transcript is not None for take in takes)
        return Drawn(joined, text, tuple(take.path for take in takes), known)

    def _augmented(self, audio: Audio, rng: np.random.Generator, digital: bool) -> Audio:
        speed = rng.uniform(*self.augment.speed)
        audio = soxr.resample(audio, self.rate * speed, self.rate, quality="QQ")
        if rng.random() < self.augment.pad_share:
            pads = [round(s * self.rate) for s in rng.uniform(*self.augment.pad, 2)]
            audio = np.pad(audio, pads)
        if digital:
            audio = gate(audio, self.rate, self.augment.gate_db)
        else:
            audio = audio + self._noise_for(audio, rng)
        audio = self._distorted(audio, rng)
        # Values above 1 stay: clipping would distort a loud recording.
        gain = 10 ** (rng.uniform(*self.augment.gain_db) / 20)
        return (audio * np.float32(gain)).astype(np.float32)

    def _distorted(self, audio: Audio, rng: np.random.Generator) -> Audio:
        """Audio through a line, an overloaded microphone, a codec: each by its share."""
        how = self.augment
        if how.band_share and rng.random() < how.band_share:
            low, high = rng.uniform(*how.low_cut_hz), rng.uniform(*how.high_cut_hz)
            audio = limit_band(audio, self.rate, low, high)
        if how.clip_share and rng.random() < how.clip_share:
            audio = clip(audio, rng.uniform(*how.clip_db))
        if how.codec_share and rng.random() < how.codec_share:
            codec: Codec = "mp3" if rng.random() < 0.5 else "opus"
            audio = encode(audio, self.rate, codec, rng.uniform(*how.compression))
        return audio

    def _noise_for(self, audio: Audio, rng: np.random.Generator) -> Audio:
        """Noise to add: colored, or as faint as one bit of 16."""
        if rng.random() >= self.augment.noise_share:
            return rng.standard_normal(len(audio), np.float32) * np.float32(3e-5)
        power = float(np.mean(audio**2)) + 1e-10
        snr = 10 ** (rng.uniform(*self.augment.noise_snr_db) / 10)
        return self._noise.cut(len(audio), rng) * np.float32(np.sqrt(power / snr))


class NoiseBank:
    """Noise of unit power, white to brown, from which random pieces are cut."""

    SECONDS, KINDS = 16, 8

    def __init__(self, rate: int, seed: int = 0) -> None:
        size = 1 << (self.SECONDS * rate).bit_length()
        rng = np.random.default_rng(seed)
        self.stretches = [
            self._colored(size, slope, rng) for slope in np.linspace(0, 1, self.KINDS)
        ]

    def cut(self, size: int, rng: np.random.Generator) -> Audio:
        """So many samples of one kind of noise, from a random place."""
        stretch = self.stretches[int(rng.integers(len(self.stretches)))]
        start = int(rng.integers(len(stretch)))
        return np.take(stretch, np.arange(start, start + size), mode="wrap")

    @staticmethod
    def _colored(size: int, slope: float, rng: np.random.Generator) -> Audio:
        spectrum = np.fft.rfft(rng.standard_normal(size))
        noise = np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 100.0) ** -slope, size)
        return (noise / np.std(noise)).astype(np.float32)


def _packed(audio: Audio) -> NDArray[np.int16] | Audio:
    """Samples in half the memory, but for those beyond full scale, which would be clipped."""
    if np.abs(audio).max(initial=0) > 1.0:
        return audio
    integers: NDArray[np.int16] = np.clip(audio * 32768.0, -32768, 32767).astype(np.int16)
    return integers


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        speakers[utterance.speaker].append(utterance)
    return speakers


def _split(utterances: list[Utterance], holdout: float) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to draw and utterances to hold back: those of every n-th speaker."""
    speakers = sorted({utterance.speaker for utterance in utterances})
    count = round(len(speakers) * holdout)
    held = set(speakers[:: len(speakers) // count][:count]) if count else set()
    kept = [utterance for utterance in utterances if utterance.speaker not in held]
    return kept, [utterance for utterance in utterances if utterance.speaker in held]


def _check_alphabet(path: Path, utterances: Iterable[Utterance], alphabet: set[str]) -> None:
    for utterance in utterances:
        strange = set(utterance.spoken) - alphabet
        if strange:
            raise DataError(
                f"{path}: {utterance.path.name}: transcript has {sorted(strange)[0]!r}, which is "
                f"no token of the card; normalize the text, or add the token"
            )

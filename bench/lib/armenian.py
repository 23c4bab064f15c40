"""The Armenian language models: a mix of sources, made small to sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from lib.places import ROOT
from lib.script import say
from tinyvox.formats.tvlm import load_ngrams, save_ngrams, size_of_ngrams
from tinyvox.lm import Settings, best_shares, compress, estimate, mix, read_sentences
from tinyvox.speech import Utterance

SOURCES = ROOT.parent / "shared" / "lm" / "armenian" / "sources"
GROUPS = {
    "common-voice": ("commonvoice_new", "commonvoice_old"),
    "wikipedia": ("hywiki", "pioner_silver"),
    "other": (
        "ud_armtdp", "ud_bsut", "ntrex", "flores_sib200", "tatoeba", "leipzig_lingua", "udhr",
    ),
    "fiction": ("fiction_pd",),
}  # fmt: skip
"""Sources that are estimated together, as they are of one kind."""
ORDER = 3
WHOLE = "whole"


def sentences(group: str) -> Iterator[str]:
    """The text of a group."""
    return chain.from_iterable(read_sentences(SOURCES / f"{name}.txt.xz") for name in GROUPS[group])


def whole_model(folder: Path, spoken: Sequence[Utterance], lines: int | None = None) -> Path:
    """The mix of all groups, by the shares with which it foresees what is spoken; nothing is left
    out or rounded. Made once. `lines` of each group, at most."""
    path = folder / f"{WHOLE}.tvlm"
    if not path.exists():
        say("estimating a language model of each kind of source, and mixing them")
        texts = [list(sentences(group))[:lines] for group in GROUPS]
        models = [estimate(text, ORDER) for text in texts]
        shares = best_shares(models, (each.text for each in spoken))
        kept = dict(zip(GROUPS, shares, strict=True))
        save_ngrams(mix(models, shares), path, {"shares": kept})
    return path


def small_model(whole: Path, megabytes: float) -> Path:
    """That model at so many megabytes, at most. Made once."""
    path = whole.with_name(f"{megabytes:g}.tvlm")
    if not path.exists():
        say(f"a language model of {megabytes:g} MB")
        settings = Settings(size=int(megabytes * 1e6))
        save_ngrams(compress(load_ngrams(whole).model, settings, size_of_ngrams), path)
    return path

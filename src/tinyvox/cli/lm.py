"""`tinyvox lm`: build, mix, compress, inspect and judge language models."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tinyvox.cli import output as printing
from tinyvox.cli.options import AsJson
from tinyvox.cli.progress_display import shown
from tinyvox.cli.tuning import tune
from tinyvox.errors import DataError, DataWarning, FileError, ModelError

if TYPE_CHECKING:
    from tinyvox.formats.tvlm import Weights
    from tinyvox.lm import NGrams
    from tinyvox.progress import Progress

Number = TypeVar("Number", int, float)
TVLM = b"\x89TVL"
ARPA = ".arpa"
SUFFIXES = (".tvlm", ARPA)
LanguageModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="LM",
        help="A language model: .tvlm, ARPA (plain, gzip, xz, bzip2), KenLM binary, .scorer of "
        "DeepSpeech or Coqui STT, .lm.bin of CMU Sphinx.",
    ),
]
Texts = Annotated[
    list[Path], typer.Argument(help="Text, a sentence a line; plain or gzip, xz, bzip2.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The .tvlm or .arpa file to write.")]
WordList = Annotated[
    Path | None,
    typer.Option("--vocabulary", help="Words, one a line, of a KenLM binary that has none."),
]
Alphabet = Annotated[
    Path | None,
    typer.Option(
        "--alphabet", help="The alphabet.txt of a scorer's acoustic model.", show_default="English"
    ),
]
MostWords = Annotated[
    int | None, typer.Option("--words", min=1, help="The most words of the vocabulary.")
]
Size = Annotated[int | None, typer.Option("--size", help="Bytes of the file, at most.")]
MostNGrams = Annotated[
    int | None, typer.Option("--ngrams", help="N-grams of all lengths, at most.")
]
MostPerplexity = Annotated[
    float | None, typer.Option("--perplexity", help="Perplexity on --dev, at most.")
]
Bits = Annotated[int, typer.Option("--bits", min=2, max=16, help="Bits of a probability.")]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Change no number: --bits does not count.")
]
SpokenText = Annotated[
    Path | None,
    typer.Option(
        "--text",
        help="Text of the kind that the model is for, which says how often words come.",
        show_default="what the model itself would say",
    ),
]
HeldOut = Annotated[
    Path | None, typer.Option("--dev", help="Other text, to measure the perplexity on.")
]


def build(
    text: Texts,
    output: Output,
    order: Annotated[
        int, typer.Option("--order", min=1, max=6, help="Words of the longest n-grams.")
    ] = 3,
    cutoffs: Annotated[
        str, typer.Option("--cutoffs", help="Leave out n-grams that are no more frequent: 0,0,1.")
    ] = "0",
    words: MostWords = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a language model from text: interpolated modified Kneser-Ney."""
    from tinyvox.lm import estimate

    _check_files(output, text)
    with shown() as progress:
        checked = output if words is None else None
        sentences = chain.from_iterable(_sentences(path, checked, progress) for path in text)
        model = estimate(sentences, order, _numbers(cutoffs, "--cutoffs", int), words, progress)
        _save(model, output, progress)
    _report(_facts(output, model), as_json)


def mix(
    models: Annotated[
        list[Path], typer.Argument(metavar="LM...", help="Language models, of any kind.")
    ],
    output: Output,
    dev: Annotated[
        Path | None,
        typer.Option("--dev", help="Text of the kind that the mix is for; it finds the shares."),
    ] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help="One for each model: 0.6,0.3,0.1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Mix language models of several sources to one: a weighted sum of their probabilities."""
    from tinyvox.lm import best_shares, judge, read_sentences, scaled
    from tinyvox.lm import mix as mix_models

    if (dev is None) == (shares is None):
        raise typer.BadParameter("give one of --dev and --shares")
    given = None if shares is None else _numbers(shares, "--shares", float)
    chosen = None if given is None else scaled(given, len(models))
    _check_files(output, [*models, *([dev] if dev else [])])
    with shown() as progress:
        spoken = list(read_sentences(dev)) if dev else []
        loaded = [_load(path, None, None, progress)[0] for path in models]
        for path, each in zip(models, loaded, strict=True):
            _check_words(str(path), each.words, output)
        chosen = chosen or best_shares(loaded, spoken)
        mixed = mix_models(loaded, chosen)
        _save(mixed, output, progress)
    facts = _facts(output, mixed) | {"shares": _by_name(models, chosen)}
    if dev is not None:
        facts |= judge(mixed, mixed.encode(spoken))
    _report(facts, as_json)


def compress(
    model: LanguageModelFile,
    output: Output,
    size: Size = None,
    ngrams: MostNGrams = None,
    perplexity: MostPerplexity = None,
    words: MostWords = None,
    bits: Bits = 6,
    lossless: Lossless = False,
    text: SpokenText = None,
    dev: HeldOut = None,
    vocabulary: WordList = None,
    alphabet: Alphabet = None,
    as_json: AsJson = False,
) -> None:
    """Make a language model small: to bytes, to a number of n-grams, or to a perplexity.

    The alpha and beta of a scorer, or of a .tvlm file, are kept.
    """
    from tinyvox.formats.tvlm import size_of_ngrams
    from tinyvox.lm import Settings, judge
    from tinyvox.lm import compress as compress_model

    settings = Settings(size, ngrams, perplexity, words, None if lossless else bits)
    if perplexity is not None and dev is None:
        raise typer.BadParameter("--perplexity is measured on a text; give one by --dev")
    if size is not None and output.suffix.lower() == ARPA:
        raise typer.BadParameter("--size is that of a .tvlm file; give --ngrams for an .arpa file")
    _check_files(output, [model, text, dev, vocabulary, alphabet])
    with shown() as progress:
        original, weights = _load(model, vocabulary, alphabet, progress)
        _check_words(str(model), original.words, output if words is None else None)
        spoken, held_out = (_tokens(original, path, progress) for path in (text, dev))
        small = compress_model(original, settings, size_of_ngrams, spoken, held_out, progress)
        _save(small, output, progress, weights)
    facts = _facts(output, small, weights) | {"original_bytes": os.path.getsize(model)}
    facts["ratio"] = facts["original_bytes"] / facts["file_bytes"]
    if dev is not None:
        facts |= judge(small, _encoded(small, dev))
        facts["original_perplexity"] = judge(original, held_out)["perplexity"]
    _report(facts, as_json)


def inspect(
    model: LanguageModelFile,
    vocabulary: WordList = None,
    alphabet: Alphabet = None,
    as_json: AsJson = False,
) -> None:
    """Show the words and n-grams of a language model, and whether its probabilities sum to one."""
    with shown() as progress:
        facts = _facts(model, *_load(model, vocabulary, alphabet, progress))
    _report(facts, as_json)


def perplexity(
    model: LanguageModelFile,
    text: Annotated[Path, typer.Argument(help="Text, a sentence a line.")],
    vocabulary: WordList = None,
    alphabet: Alphabet = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well a language model foresees a text."""
    from tinyvox.lm import judge
    from tinyvox.storage import check_inputs

    check_inputs([model, text])
    with shown() as progress:
        loaded, weights = _load(model, vocabulary, alphabet, progress)
        facts = _facts(model, loaded, weights) | judge(loaded, _encoded(loaded, text))
    _report(facts, as_json)


def _check_files(output: Path, inputs: Sequence[Path | None]) -> None:
    """What can be known of files before the work."""
    from tinyvox.storage import check_apart, check_inputs, check_output

    given = [path for path in inputs if path is not None]
    check_output(output, SUFFIXES)
    check_apart({"the language model": output}, given)
    check_inputs(given)


def _by_name(models: Sequence[Path], shares: Sequence[float]) -> dict[str, float]:
    """The shares of files, of which one may be named twice."""
    found: dict[str, float] = {}
    for path, share in zip(map(str, models), shares, strict=True):
        found[path] = found.get(path, 0) + share
    return found


def _numbers(text: str, option: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(each) for each in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} is {text!r}, expected numbers such as 0,0,1") from None


def _load(
    path: Path, vocabulary: Path | None, alphabet: Path | None, progress: Progress
) -> tuple[NGrams, Weights | None]:
    """A model, and its alpha and beta where the file has them."""
    from tinyvox.formats.tvlm import load_ngrams
    from tinyvox.lm import read_foreign_file, read_words
    from tinyvox.storage import open_input

    with open_input(path) as file:
        if file.read(len(TVLM)) == TVLM:
            _say_unused(path, vocabulary, alphabet, needs=None)
            ours = load_ngrams(path)
            return ours.model, ours.weights
    words = None if vocabulary is None else read_words(vocabulary)
    letters = None if alphabet is None else _letters(alphabet)
    found = read_foreign_file(path, words, letters, progress)
    _say_unused(path, vocabulary, alphabet, needs=found.needs)
    return found.model, found.weights


def _say_unused(
    path: Path, vocabulary: Path | None, alphabet: Path | None, *, needs: str | None
) -> None:
    """Warn of lists that a file needs nothing from."""
    if vocabulary is not None and needs != "words":
        what = "has its words itself, so --vocabulary is not used"
        warnings.warn(f"{path}: {what}", DataWarning, stacklevel=2)
    if alphabet is not None and needs != "letters":
        what = "is no scorer with words of letters, so --alphabet is not used"
        warnings.warn(f"{path}: {what}", DataWarning, stacklevel=2)


def _letters(path: Path) -> list[str]:
    r"""The letters of DeepSpeech's `alphabet.txt`: one a line; # begins a comment, \# is #."""
    from tinyvox.storage import open_input

    with open_input(path) as file:
        lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    letters = [line.removeprefix("\\") for line in lines if line and not line.startswith("#")]
    if not letters or any(len(letter) > 8 for letter in letters):
        raise FileError(f"{path}: is no alphabet; expected a letter a line")
    return letters


def _tokens(model: NGrams, path: Path | None, progress: Progress) -> Any:
    return None if path is None else _encoded(model, path, progress)


def _encoded(model: NGrams, path: Path, progress: Progress | None = None) -> Any:
    from tinyvox.lm import SPECIAL_WORDS, read_sentences
    from tinyvox.progress import silent

    tokens = model.encode(read_sentences(path, progress or silent))
    if not (tokens >= len(SPECIAL_WORDS)).any():
        raise DataError(f"{path}: has no word that the language model knows")
    return tokens


def _sentences(path: Path, output: Path | None, progress: Progress) -> Iterator[str]:
    """The sentences of a text, of which `_check_words` has seen the words."""
    from tinyvox.lm import read_sentences

    for number, sentence in enumerate(read_sentences(path, progress), 1):
        _check_words(f"{path}: sentence {number}", sentence.split(), output)
        yield sentence


def _check_words(where: str, words: Sequence[str], output: Path | None) -> None:
    """Raise ModelError for a word that the file to be written cannot have, before the work.

    `output` is None where words will be left out, of which it may be one.
    """
    from tinyvox.formats.tvlm import check_words

    if output is None or output.suffix.lower() == ARPA:
        return
    try:
        check_words(words)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None


def _save(model: NGrams, path: Path, progress: Progress, weights: Weights | None = None) -> None:
    from tinyvox.formats.tvlm import save_ngrams
    from tinyvox.lm import write_arpa

    if path.suffix.lower() == ARPA:
        write_arpa(model, path, progress)
    else:
        save_ngrams(model, path, weights=weights)


def _facts(path: Path, model: NGrams, weights: Weights | None = None) -> dict[str, Any]:
    from tinyvox.lm import describe

    size = os.path.getsize(path)
    alpha, beta = weights or (None, None)
    return {
        "file": str(path),
        "file_bytes": size,
        "bytes_per_ngram": size / sum(model.counts),
        **describe(model),
        "alpha": alpha,
        "beta": beta,
    }


def _report(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.print_json(facts)
        return
    out = printing.people()
    for line in _lines(facts):
        out.print(line, soft_wrap=True, highlight=False, markup=False)


def _lines(facts: dict[str, Any]) -> list[str]:
    counts = " / ".join(f"{count:,}" for count in facts["ngrams"])
    ratio = f", {facts['ratio']:.1f} times smaller than the original" if "ratio" in facts else ""
    lengths = "1 word" if facts["order"] == 1 else f"1 to {facts['order']} words"
    lines = [
        f"{facts['file']}: {facts['file_bytes']:,} bytes{ratio}",
        f"{counts} n-grams of {lengths}, {facts['bytes_per_ngram']:.2f} bytes each, all included",
        f"total mass: mean {facts['mean_total_mass']:.6f}, worst {facts['worst_total_mass']:.6f}, "
        f"{printing.counted(facts['sampled_contexts'], 'context')}",
    ]
    if facts["alpha"] is not None:
        lines.append(f"decoded with alpha {facts['alpha']:.3g}, beta {facts['beta']:.3g}")
    if "perplexity" in facts:
        unknown = f"{facts['unknown']:,} of {printing.counted(facts['tokens'], 'token')} unknown"
        lines.append(
            f"perplexity: {facts['perplexity']:.2f}, {facts['perplexity_of_known']:.2f} without "
            f"unknown words ({unknown}; {printing.counted(facts['sentences'], 'sentence')})"
        )
    for name, share in facts.get("shares", {}).items():
        lines.append(f"share of {name}: {share:.4f}")
    if "original_perplexity" in facts:
        lines.append(f"perplexity of the original: {facts['original_perplexity']:.2f}")
    return lines


COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "mix": mix,
    "compress": compress,
    "inspect": inspect,
    "perplexity": perplexity,
    "tune": tune,
}
"""The commands of the group by name, in the order in which `--help` lists them."""

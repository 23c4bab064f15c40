"""The command line. Results go to standard output; exit status 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tinyvox import __version__, console
from tinyvox.errors import RecipeError, TinyvoxError

app = typer.Typer(
    help="Makes trained recurrent speech models 30 to 120 times smaller, and runs the small file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Speech = Annotated[
    Path | None, typer.Option(help="The speech card, if it is not NAME.speech.yaml.")
]
Data = Annotated[Path, typer.Option("--data", help="Manifest: JSON lines or DeepSpeech CSV.")]


def main() -> None:
    """Entry point: errors that are the input's fault become one line and exit status 1."""
    try:
        app(standalone_mode=True)
    except TinyvoxError as error:
        sys.exit(f"tinyvox: {error}")
    except KeyboardInterrupt:
        sys.exit("tinyvox: interrupted")


@app.command()
def train(config: Annotated[Path, typer.Argument(help="Training configuration, YAML.")]) -> None:
    """Train a model from manifests; run again after a stop, it goes on from its checkpoint."""
    from tinyvox import training
    from tinyvox.exporters import export_pt2
    from tinyvox.model import card_path, save_card

    settings = training.load_config(config)
    with console.progress_bar("reading audio") as reading, console.progress_bar("training") as bar:
        model = training.train(settings, lambda p: bar(p.step, p.steps), reading)
    export_pt2(model, settings.output)
    assert model.card is not None
    save_card(model.card, card_path(settings.output))
    print(f"{settings.output}: {model.count_parameters():,} parameters")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .tvx file, or a model to compress.")],
    as_json: AsJson = False,
) -> None:
    """Show every matrix, and where every byte of a .tvx file goes."""
    from tinyvox import files

    model = files.load(file)
    packed = file.suffix == ".tvx"
    facts = (files.describe_file if packed else files.describe_model)(file, model)
    if as_json:
        console.print_json(facts)
    else:
        console.print_sizes(facts, console.console(as_json))


@app.command()
def compress(
    model: Annotated[Path, typer.Argument(help="The trained model: .pt2 or .tvx.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tvx file to write.")],
    ratio: Annotated[float | None, typer.Option(help="How many times smaller.")] = None,
    size: Annotated[int | None, typer.Option(help="At most so many bytes.")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="Points of WER that may be lost on --dev.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Steps to take, YAML.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Manifest of speech to learn from what each matrix is multiplied by."),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(help="Manifest of speech that plans are held against; --data by default."),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option(help="Manifest, or training configuration, to fine-tune on."),
    ] = None,
    save_recipe: Annotated[
        Path | None, typer.Option(help="Where to write the recipe that was found.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is made up, or drawn at random.")] = 0,
    speech: Speech = None,
    as_json: AsJson = False,
) -> None:
    """Make a model small: by a recipe, to a ratio or a size, or within a loss."""
    from tinyvox import files
    from tinyvox.formats import tvx
    from tinyvox.passes import apply
    from tinyvox.recipe import load_recipe, with_finetune
    from tinyvox.recipe import save_recipe as save

    if sum(option is not None for option in (ratio, size, max_loss, recipe)) != 1:
        raise typer.BadParameter("give one of --ratio, --size, --max-loss and --recipe")
    out = console.console(as_json)
    original = files.load(model, speech)
    with console.progress_bar("calibrating") as bar:
        calibration = _calibration(data, seed, bar)
        calibration.of(original)
    if recipe is not None:
        steps = load_recipe(recipe)
    else:
        budget = {"ratio": ratio, "size": size, "max_loss": max_loss}
        steps = _planned(original, calibration, data, dev, seed, output, out, **budget)
    if finetune is not None:
        steps = with_finetune(steps)
    if save_recipe is not None:
        save(steps, save_recipe)
    tune = _finetuner(finetune, original, output, calibration) if finetune is not None else None
    small, notes = apply(original, steps, finetune=tune, calibration=calibration)
    tvx.save(small, output)
    for note in notes:
        out.print(f"{note.layer}: {note.what}", soft_wrap=True, highlight=False)
    facts = files.describe_file(output, small)
    console.print_sizes(facts, out)
    if as_json:
        console.print_json(facts)


def _planned(
    original: Any,
    calibration: Any,
    data: Path | None,
    dev: Path | None,
    seed: int,
    output: Path,
    out: Any,
    **budget: Any,
) -> Any:
    """The recipe for a budget, its table printed; a search that was interrupted goes on from a file
    beside the output."""
    from tinyvox.calibration import divergence_on_audio
    from tinyvox.evaluation import lost_words
    from tinyvox.planner import find_plan
    from tinyvox.speech import read_manifest

    heard = dev or data
    divergence = judge = None
    if heard is not None and original.card is not None:
        utterances = read_manifest(heard)
        divergence = divergence_on_audio(original, utterances)
        if budget["max_loss"] is not None:
            judge = lost_words(original, utterances)
    state = output.with_suffix(".plan.json")
    plan = find_plan(
        original, calibration=calibration, divergence=divergence, judge=judge, seed=seed,
        state=state, progress=out.print, **budget,
    )  # fmt: skip
    state.unlink(missing_ok=True)
    console.print_plan(plan, out)
    return plan.recipe


def _calibration(data: Path | None, seed: int, bar: Callable[[int, int], None]) -> Any:
    """Calibration on the speech of a manifest, or on synthetic speech."""
    from tinyvox.calibration import Calibration

    if data is None:
        return Calibration.synthetic(seed)
    return Calibration.from_audio(data, seed=seed, progress=lambda u: bar(u.done, u.total or 0))


def _finetuner(
    data: Path, original: Any, output: Path, calibration: Any
) -> Callable[[Any, Any], Any]:
    """Fine-tuning on a manifest, or on the data of a training configuration; what was interrupted
    goes on from a checkpoint beside the output."""
    from tinyvox import training
    from tinyvox.training import finetune

    if original.card is None:
        raise RecipeError("fine-tuning needs a speech card; add --speech FILE")
    config = (
        training.load_config(data)
        if data.suffix in (".yaml", ".yml")
        else training.plain_config(data, original.card)
    )
    with console.progress_bar("reading audio") as reading:
        corpus = training.load_corpus(config, reading)

    def tune(model: Any, settings: Any) -> Any:
        checkpoint = output.with_suffix(".finetune.pt")
        with console.progress_bar("fine-tuning") as bar:
            report = lambda p: bar(p.step, p.steps)  # noqa: E731
            return finetune(model, settings, corpus, original, report, checkpoint, calibration)

    return tune


def _open(path: Path, speech: Path | None = None) -> Any:
    """A native session for a .tvx file, else a model for the torch executor."""
    from tinyvox import files, runtime

    if path.suffix != ".tvx" or speech is not None:
        return files.load(path, speech)
    return runtime.open(path)


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(help="A .tvx file, or the original model.")],
    data: Data,
    against: Annotated[Path | None, typer.Option(help="The original, to compare with.")] = None,
    speech: Speech = None,
    as_json: AsJson = False,
) -> None:
    """Word and character error rates on a manifest, greedily decoded."""
    from tinyvox import evaluation as scoring
    from tinyvox.speech import read_manifest

    utterances = read_manifest(data)
    out = console.console(as_json)
    with console.progress_bar("transcribing") as bar:
        errors = scoring.evaluate(_open(model, speech), utterances, bar)
    facts = errors.summary()
    console.print_score(model.name, facts, out)
    if against is not None:
        with console.progress_bar("the original") as bar:
            original = scoring.evaluate(_open(against, speech), utterances, bar)
        facts["original"] = original.summary()
        facts["wer_change"] = errors.wer - original.wer
        facts["wer_change_interval"] = list(scoring.change_interval(original, errors))
        console.print_score(against.name, facts["original"], out)
        change = console.percent_interval(facts["wer_change_interval"])
        out.print(f"change of WER: {100 * facts['wer_change']:+.2f} points (95% interval {change})")
    if as_json:
        console.print_json(facts)


@app.command()
def transcribe(
    model: Annotated[Path, typer.Argument(help="A .tvx file with a speech card.")],
    audio: Annotated[list[Path], typer.Argument(help="Audio files.")],
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed 100 ms at a time, print text as it comes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the text of audio files."""
    from tinyvox import runtime
    from tinyvox.speech import read_audio

    session = runtime.open(model)
    results = []
    for path in audio:
        samples = read_audio(path, session.sample_rate)
        show = stream and not as_json
        text = _stream(session, samples, show) if stream else session.transcribe(samples)
        results.append({"audio_filepath": str(path), "text": text})
        if not as_json and not show:
            print(f"{path}: {text}" if len(audio) > 1 else text)
    if as_json:
        console.print_json({"results": results})


def _stream(session: Any, samples: Any, show: bool) -> str:
    stream = session.stream()
    piece = session.sample_rate // 10
    for start in range(0, len(samples), piece):
        before = stream.text
        stream.feed(samples[start : start + piece])
        if show:
            print(stream.text[len(before) :], end="", flush=True)
    before = stream.text
    text: str = stream.finish()
    if show:
        print(text[len(before) :])
    return text


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A .tvx file.")],
    against: Annotated[Path | None, typer.Option(help="The original, run in torch.")] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Frames a call.")] = 16,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of both.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Milliseconds a frame, beside the original in torch float32."""
    from tinyvox import evaluation as timing
    from tinyvox import files

    original = None if against is None else files.load(against)
    facts = timing.bench(model, original, chunk, threads=threads)
    if as_json:
        console.print_json(facts)
        return
    out = console.console(as_json)
    rtf = "" if facts["rtf"] is None else f", real-time factor {facts['rtf']:.5f}"
    out.print(
        f"{model.name}: {facts['ms_per_frame']:.4f} ms a frame (chunk {chunk}, {facts['isa']}, "
        f"{threads} thread{'s' if threads > 1 else ''})"
        f"{rtf}, opened in {facts['load_ms']:.1f} ms, "
        f"{console.size_text(facts['resident_bytes'])} resident"
    )
    if against is not None:
        out.print(
            f"{against.name}: {facts['original_ms_per_frame']:.4f} ms a frame in torch float32; "
            f"{facts['speedup']:.1f} times as fast now"
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where demo.tvx is kept.")] = Path("."),
    models: Annotated[Path, typer.Option(help="The bundled models.")] = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Compress the bundled model on the spot, transcribe the bundled clips, print one table."""
    from tinyvox.demo import run

    run(models / "commands", out, as_json)


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None: ...


if __name__ == "__main__":
    main()

"""Options of the commands: what each is called, takes and means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, nothing else."),
]
Card = Annotated[
    Path | None,
    typer.Option(
        "--card", help="The speech card.", show_default="NAME.speech.yaml beside the model"
    ),
]
FormerCard = Annotated[Path | None, typer.Option("--speech", hidden=True)]
"""The former name of --card."""
Data = Annotated[
    Path, typer.Option("--data", help="Manifest with transcripts: JSON lines, or DeepSpeech CSV.")
]
Trained = Annotated[
    Path, typer.Argument(help="The trained model: .pt2, .tflite, .keras, .h5 and others, or .tvx.")
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="The .tvx file to write, or .onnx for an .onnx model."),
]
Ratio = Annotated[float | None, typer.Option("--ratio", help="How many times smaller.")]
Size = Annotated[int | None, typer.Option("--size", help="Bytes of the file, at most.")]
MaxLoss = Annotated[
    float | None,
    typer.Option("--max-loss", help="Points of word error rate that may be lost on --dev."),
]
Lossless = Annotated[
    bool,
    typer.Option(
        "--lossless", help="Change no weight: recode what the original holds in 8 bits or fewer."
    ),
]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A recipe to follow, YAML.")]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="What to calibrate with: a manifest of speech, without transcripts, or features "
        "(.npz, or a folder of .npy), for a model without a speech card.",
    ),
]
Dev = Annotated[
    Path | None,
    typer.Option(
        "--dev",
        help="Manifest of speech, or features, to judge plans on.",
        show_default="a fifth of --data",
    ),
]
Finetune = Annotated[
    Path | None,
    typer.Option(
        "--finetune",
        help="Manifest, best with transcripts, or training configuration, to fine-tune on.",
    ),
]
EffortOption = Annotated[
    Literal["fast", "normal", "thorough"],
    typer.Option(
        "--effort", help="How long to search for a plan: seconds, minutes, or up to an hour."
    ),
]
ToFinetune = Annotated[
    bool,
    typer.Option(
        "--to-finetune",
        help="Plan a file that will be fine-tuned: more weights with fewer bits.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Fail, and write nothing, where the result is far from the original."
    ),
]
SaveRecipe = Annotated[
    Path | None, typer.Option("--save-recipe", help="Write the recipe that was found to this file.")
]
NormalizeOption = Annotated[
    Literal["none", "lower"],
    typer.Option(
        "--normalize", help="What is done to transcripts and texts before they are compared."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder of calibration statistics.", show_default="the user's cache"
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE|mlflow|tensorboard",
        help="Append where the work is to this file, for `tinyvox watch`; or give it to one of "
        "these libraries.",
    ),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="Write the results as JSON, and report.html, to this folder.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**62,
        help="Seed of synthetic speech and of everything drawn at random.",
    ),
]

Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes of this machine that share the work.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster that works: HOST:PORT, auto, or local for one on this machine.",
        show_default="processes of this machine, without Ray",
    ),
]
Texts = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        help="Write what is heard to this file, a JSON object a line; the same command goes on "
        "there.",
    ),
]
Compressed = Annotated[Path, typer.Argument(help="The compressed .tvx file.")]
OutputTvx = Annotated[Path, typer.Option("-o", "--output", help="The .tvx file to write.")]
Teacher = Annotated[
    Path, typer.Option("--teacher", help="The original that the model was made from.")
]
Tuning = Annotated[
    Path,
    typer.Option(
        "--data", help="Manifest of speech, or training configuration; it needs no transcripts."
    ),
]
Judging = Annotated[
    Path | None, typer.Option("--dev", help="Manifest of speech to judge the model on.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Minutes that the whole command may take.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", help="Steps to train for.", show_default="1000")
]
KeptSize = Annotated[
    int | None,
    typer.Option("--size", help="Bytes of the file, at most.", show_default="as it has now"),
]
Ctc = Annotated[
    float | None,
    typer.Option(
        "--ctc", help="Weight of the transcripts.", show_default="1; 0 where there are none"
    ),
]
Distill = Annotated[
    float | None,
    typer.Option("--distill", help="Weight of the original's outputs.", show_default="2"),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--learning-rate", help="The highest rate.", show_default="tried out on --dev"),
]
TeacherCache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder of the original's outputs.", show_default="the user's cache"
    ),
]

"""`tinyvox finetune`."""

from __future__ import annotations

from contextlib import nullcontext

from tinyvox.cli import options
from tinyvox.cli import output as printing
from tinyvox.cli.progress_display import shown
from tinyvox.progress import silent


def finetune(
    model: options.Compressed,
    output: options.OutputTvx,
    teacher: options.Teacher,
    data: options.Tuning,
    dev: options.Judging = None,
    minutes: options.Minutes = None,
    steps: options.Steps = None,
    size: options.KeptSize = None,
    ctc: options.Ctc = None,
    distill: options.Distill = None,
    learning_rate: options.LearningRate = None,
    card: options.Card = None,
    cache: options.TeacherCache = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train a compressed file on, with the original as the teacher; its size stays.

    After a stop, the same command goes on from the checkpoint beside the output.
    """
    from tinyvox.training import is_first, join, leave
    from tinyvox.workflow import FinetuneRequest, results, run_finetune

    request = FinetuneRequest(
        model, teacher, data, output, dev, size, minutes, steps, ctc, distill, learning_rate, card,
        cache, seed,
    )  # fmt: skip
    clock = results.Clock()
    join()
    with shown() if is_first() else nullcontext(silent) as progress:
        result = run_finetune(request, progress)
    if is_first():
        facts = results.finetuned(request, result, clock.seconds())
        if as_json:
            printing.print_json(facts)
        else:
            printing.print_finetuned(result, facts, teacher, output)
    leave()

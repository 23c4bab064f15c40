"""`tinyvox finetune`."""

from __future__ import annotations

from contextlib import nullcontext

from tinyvox.cli import options
from tinyvox.cli import output as printing
from tinyvox.cli.progress_log import shown_and_logged
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
    log: options.Log = None,
    as_json: options.AsJson = False,
) -> None:
    """Train a compressed file on, with the original as the teacher; its size stays.

    After a stop, the same command goes on from the checkpoint beside the output.
    """
    from tinyvox import workflow
    from tinyvox.training import is_first, join, leave

    request = workflow.FinetuneRequest(
        model, teacher, data, output, dev, size, minutes, steps, ctc, distill, learning_rate, card,
        cache, seed,
    )  # fmt: skip
    clock = workflow.Clock()
    join()
    with shown_and_logged(log) if is_first() else nullcontext(silent) as progress:
        result = workflow.run_finetune(request, progress)
    if is_first():
        facts = workflow.finetuned_facts(request, result, clock.seconds())
        if as_json:
            printing.print_json(facts)
        else:
            printing.print_finetuned(result, facts, teacher, output)
    leave()

"""The commands in one application, and its entry point."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import cleandoc
from typing import Annotated

import typer

from tinyvox import __version__
from tinyvox.cli import lm
from tinyvox.cli.bench import bench
from tinyvox.cli.compress import compress
from tinyvox.cli.demo import demo
from tinyvox.cli.evaluate import evaluate
from tinyvox.cli.export import export
from tinyvox.cli.finetune import finetune
from tinyvox.cli.inspect import inspect
from tinyvox.cli.report import report
from tinyvox.cli.sweep import sweep
from tinyvox.cli.train import train
from tinyvox.cli.transcribe import transcribe
from tinyvox.cli.watch import watch
from tinyvox.errors import DataWarning, TinyvoxError

app = typer.Typer(
    help="Makes trained recurrent speech models 30 to 120 times smaller, and runs the small file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "compress": compress,
    "finetune": finetune,
    "inspect": inspect,
    "eval": evaluate,
    "export": export,
    "transcribe": transcribe,
    "bench": bench,
    "report": report,
    "watch": watch,
    "train": train,
    "sweep": sweep,
    "demo": demo,
}
"""Commands by name, in the order in which `--help` lists them."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """The command; Ctrl-C becomes one line, which says what is kept."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as error:
            print(": ".join(["tinyvox: interrupted", *map(str, error.args)]), file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error

    return run


def _help(command: Callable[..., None]) -> str:
    """What a command does, each paragraph on one line: the terminal says how wide lines are."""
    paragraphs = cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def _add(group: typer.Typer, commands: Mapping[str, Callable[..., None]]) -> None:
    for name, command in commands.items():
        group.command(name, help=_help(command))(_interruptible(command))


_add(app, COMMANDS)

lm_app = typer.Typer(
    help="Build, mix, compress, inspect, judge and tune language models.", no_args_is_help=True
)
app.add_typer(lm_app, name="lm")
_add(lm_app, lm.COMMANDS)


def main() -> None:
    """Run the command line; an error that is the input's fault, or the disk's, becomes one line and
    status 1."""
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have any bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()
    except TinyvoxError as error:
        sys.exit(f"tinyvox: {error}")
    except OSError as error:
        _drop_output()
        said = f"{error.filename or 'standard output'}: {error.strerror}"
        sys.exit(1 if error.errno == errno.EPIPE else f"tinyvox: {said}")


def _drop_output() -> None:
    """Let what standard output could not take go nowhere, else Python tries it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """A warning of ours is one line; others say where they come from."""
    if not issubclass(category, DataWarning):
        message = warnings.formatwarning(message, category, filename, lineno).strip()
    print(f"tinyvox: {message}", file=sys.stderr)


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...

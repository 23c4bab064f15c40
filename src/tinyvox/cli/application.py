"""The commands in one application, and its entry point."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from tinyvox import __version__
from tinyvox.cli.bench import bench
from tinyvox.cli.compress import compress
from tinyvox.cli.demo import demo
from tinyvox.cli.evaluate import evaluate
from tinyvox.cli.inspect import inspect
from tinyvox.cli.train import train
from tinyvox.cli.transcribe import transcribe
from tinyvox.errors import DataWarning, TinyvoxError

app = typer.Typer(
    help="Makes trained recurrent speech models 30 to 120 times smaller, and runs the small file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "compress": compress,
    "inspect": inspect,
    "eval": evaluate,
    "transcribe": transcribe,
    "bench": bench,
    "train": train,
    "demo": demo,
}
"""Commands by name, in the order in which `--help` lists them."""

for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Run the command line; an error that is the input's fault becomes one line and status 1."""
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have any bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except TinyvoxError as error:
        sys.exit(f"tinyvox: {error}")
    except KeyboardInterrupt:
        sys.exit("tinyvox: interrupted")


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

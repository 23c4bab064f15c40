"""The command line. Results go to standard output, progress to standard error.

Exit status: 0 done, 1 the work failed (one line says why), 2 wrong usage.
"""

from tinyvox.cli.application import app, main

__all__ = ["app", "main"]

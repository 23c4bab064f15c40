"""The `tinyvox` command; where the runtime is alone, it says what to install."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line, which needs more than the runtime does.

    Threads of PyTorch (GNU OpenMP) spin shortly while they wait, then sleep, unless the environment
    says otherwise: where two that spin for long share a processor, work takes ten times as long.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # read when PyTorch is imported
    try:
        from tinyvox import cli

        cli.main()
    except ModuleNotFoundError as error:
        sys.exit(f"tinyvox: no module {error.name!r}; pip install 'tinyvox[compress]'")
    except KeyboardInterrupt:  # before a command began
        print("tinyvox: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

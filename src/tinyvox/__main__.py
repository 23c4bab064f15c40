"""The `tinyvox` command; where the runtime is alone, it says what to install."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which needs more than the runtime does."""
    try:
        from tinyvox import cli
    except ModuleNotFoundError as error:
        sys.exit(f"tinyvox: no module {error.name!r}; pip install 'tinyvox[compress]'")
    cli.main()


if __name__ == "__main__":
    main()

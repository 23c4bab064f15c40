"""Write the manifests of the commands model's test sets, and of what its small files were made by.

    python bench/testsets.py OUT_DIR

`lib/testsets.py` says what they hold; the corpora have to lie beside the project.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lib import testsets

from tinyvox.speech import write_manifest


def main() -> None:
    """Build the sets, and print where each lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    manifests = testsets.build(out)
    extra = {"calibration": testsets.calibration(out), "development": testsets.development(out)}
    for name, rows in extra.items():
        manifests[name] = out / f"{name}.jsonl"
        write_manifest(manifests[name], rows)
    for name, manifest in manifests.items():
        print(f"{name}: {manifest}")


if __name__ == "__main__":
    main()

"""Makes the environments of orchestrators, and runs the pipeline in each of them.

python -m tests.orchestrators [NAME …] [--only-make]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    """The exit code of the tests."""
    from tests.orchestrators.environments import NAMES, make

    parser = argparse.ArgumentParser(prog="python -m tests.orchestrators", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--only-make", action="store_true", help="and run no test")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(NAMES)}")
    for name in chosen.names or NAMES:
        make(name)
    if chosen.only_make:
        return 0
    tests = [sys.executable, "-m", "pytest", "-m", "slow or not slow", "tests/orchestrators"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(tests, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

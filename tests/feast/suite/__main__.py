"""Runs Feast's own universal tests on featurekit's stores, and tells how each ended and why.

python -m tests.feast.suite PATH [--own] [--table FILE] [NAME …]

PATH is a checkout of Feast, or a folder with its `tests` and `pytest.ini`. They are copied beside
the project, since the sources in a checkout would hide the installed package. With `--own` the same
tests run on Feast's own stores, so that what is skipped there can be compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from featurekit.online.store.server import scratch_redis
from tests.feast.suite.environment import ROOT, python
from tests.feast.suite.outcomes import Outcome, outcomes, table, unexpected

PARTS = ("offline_store", "online_store", "materialization", "registration", "cli")
HOOK = ROOT / "tests" / "feast"


def main() -> int:
    """0 where every test passed, or did not run or failed for a reason that is known."""
    parser = argparse.ArgumentParser(prog="./run feast-suite", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="Feast's checkout, or its tests")
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts, or files below them")
    parser.add_argument("--own", action="store_true", help="on Feast's own stores")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    asked = parser.parse_intermixed_args()  # names may follow an option
    with tempfile.TemporaryDirectory(prefix="feast-suite-") as name:
        folder = Path(name)
        copied(asked.path, folder)
        found = run(folder, asked.names or PARTS, own=asked.own, workers=asked.workers)
    told = table(found, own=asked.own)
    print(told)
    if asked.table is not None:
        asked.table.write_text(told + "\n", encoding="utf-8")
    faults = [] if asked.own else unexpected(found)
    for one in faults:
        print(f"{one.outcome}: {one.test}: {one.reason}", file=sys.stderr)
    return 1 if faults else 0


def copied(path: Path, folder: Path) -> None:
    """Copy Feast's tests from a checkout, or from a folder that has them."""
    places = [path / "sdk" / "python", path]
    place = next((one for one in places if (one / "tests" / "integration").is_dir()), None)
    if place is None:
        raise SystemExit(
            f"{path} has no tests of Feast: give a checkout of github.com/feast-dev/feast, or a "
            "folder with its tests/ and pytest.ini"
        )
    shutil.copytree(place / "tests", folder / "tests")
    shutil.copy(place / "pytest.ini", folder / "pytest.ini")


def run(
    folder: Path, names: list[str] | tuple[str, ...], *, own: bool, workers: int
) -> list[Outcome]:
    """How each test of these parts ended. What pytest says goes to the terminal."""
    report = folder / "report.xml"
    tests = [f"tests/integration/{name}" for name in names]
    command = [
        str(python()), "-m", "pytest", "--integration", "-p", "no:cacheprovider",
        # A test of its commands starts many processes, each of which loads Feast for seconds.
        "--timeout=1800", f"--junitxml={report}", "-n", str(workers), *tests,
    ]  # fmt: skip
    with scratch_redis() as url:
        env = {
            **os.environ,
            "FULL_REPO_CONFIGS_MODULE": "repo_configuration",
            "PYTHONPATH": f"{HOOK}{os.pathsep}{ROOT}",
            "FEATUREKIT_REDIS_URL": url,
            "IS_TEST": "True",
            "FEAST_IS_LOCAL_TEST": "True",
            "FEAST_USAGE": "False",
            # Its tests call the commands of this environment.
            "PATH": f"{python().parent}{os.pathsep}{os.environ['PATH']}",
        }
        env.pop("FEATUREKIT_FEAST_OWN", None)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # each of its processes would compile all it loads
        if own:
            env["FEATUREKIT_FEAST_OWN"] = "1"
        subprocess.run(command, cwd=folder, env=env, check=False)
    if not report.is_file():
        raise SystemExit("pytest has written no report; its own words are above")
    return outcomes(report)


if __name__ == "__main__":
    sys.exit(main())

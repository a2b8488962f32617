"""The docs show only code that runs: each page's blocks are run one after another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import forks

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(python|sh)\n(.*?)^```", re.M | re.S)
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): FENCE.findall(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
FROM_NOTHING = ("tutorial.md",)
"""The pages that make their repo themselves; the others find one that is applied and filled."""

RUNNER = """
import linecache, os, subprocess, sys, tempfile, warnings
warnings.simplefilter("error")
names = {"__name__": "__main__"}
WHERE = tempfile.mkstemp()[1]
for number, (kind, code) in enumerate(BLOCKS, start=1):
    if kind == "sh":
        # A block may change the folder for those after it.
        subprocess.run(["sh", "-euc", code + f"\\npwd >{WHERE}"], check=True)
        with open(WHERE) as file:
            os.chdir(file.read().rstrip("\\n"))
    else:
        sys.path[:0] = [os.getcwd()]
        place = f"<block {number} of {PAGE}>"
        # As a notebook keeps the text of its cells, for functions that are features.
        linecache.cache[place] = (len(code), None, code.splitlines(keepends=True), place)
        exec(compile(code, place, "exec"), names)
"""


def environment(folder: Path) -> dict[str, str]:
    """An environment with a `featurekit` on PATH and no other Redis."""
    script = folder / "bin" / "featurekit"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {forks.command("-m", "featurekit.cli")} "$@"\n')
    script.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    env.pop("FEATUREKIT_REDIS_URL", None)
    return env


def blocks_of(page: str) -> list[tuple[str, str]]:
    """The page's blocks that run."""
    return [(kind, code) for unrun, kind, code in PAGES[page] if not unrun]


def run(blocks: list[tuple[str, str]], page: str, repo: Path, env: dict[str, str]) -> Any:
    """Run blocks one after another; Python's share their names."""
    code = f"BLOCKS, PAGE = {blocks!r}, {page!r}\n{RUNNER}"
    command = [sys.executable, "-c", code]
    return forks.run(command, cwd=repo, env=env, timeout=300)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repo that `init` writes, applied and filled; beside it, a `featurekit` for PATH."""
    folder = tmp_path_factory.mktemp("starter")
    commands = "featurekit init my_repo && cd my_repo && featurekit apply && featurekit materialize"
    env = environment(folder)
    subprocess.run(["sh", "-euc", commands], cwd=folder, env=env, check=True, capture_output=True)
    return folder / "my_repo"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_the_blocks_of_a_page_run(tmp_path: Path, starter: Path, page: str) -> None:
    env = environment(tmp_path)
    repo = tmp_path if page in FROM_NOTHING else starter
    tests = [code for _, code in blocks_of(page) if "\ndef test_" in code]
    done = run([block for block in blocks_of(page) if block[1] not in tests], page, repo, env)
    assert done.returncode == 0, done.stdout + done.stderr
    if tests:
        (repo / "test_page.py").write_text("\n\n".join(tests), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"]
        done = forks.run(command, cwd=repo, env=env)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "blocks",
    [
        [("sh", "false")],
        [("python", "raise SystemExit(3)")],
        [("python", "one = 1"), ("python", "print(two)")],
        [("sh", "featurekit attic")],
    ],
)
def test_a_block_that_fails_is_told(tmp_path: Path, blocks: list[tuple[str, str]]) -> None:
    assert run(blocks, "planted", tmp_path, environment(tmp_path)).returncode != 0


def test_names_and_folders_are_kept_from_block_to_block(tmp_path: Path) -> None:
    blocks = [
        ("sh", "mkdir inner && cd inner"),
        ("python", "import os\nhere = os.path.basename(os.getcwd())"),
        ("python", "assert here == 'inner'"),
    ]
    assert run(blocks, "planted", tmp_path, environment(tmp_path)).stderr == ""

"""README claims nothing that does not work: its example and its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def in_copy(tmp_path: Path) -> dict[str, object]:
    """How to run something in a copy of the example, with a `featurekit` on PATH."""
    shutil.copytree(
        ROOT / "feature_repo",
        tmp_path / "feature_repo",
        ignore=shutil.ignore_patterns("data", ".featurekit", "__pycache__"),
    )
    script = tmp_path / "bin" / "featurekit"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m featurekit.cli "$@"\n')
    script.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{script.parent}:{os.environ['PATH']}"}
    env.pop("FEATUREKIT_REDIS_URL", None)
    return {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    example = next(b for b in blocks("python") if "FeatureStore" in b)
    (data,) = re.findall(r"`\.venv/bin/(featurekit demo --write-data [^`]+)`", README)
    copy = in_copy(tmp_path)
    subprocess.run(["sh", "-euc", data], check=True, **copy)  # type: ignore[call-overload]
    done = forks.run([sys.executable, "-c", example], cwd=copy["cwd"], env=copy["env"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_the_definitions_shown_are_those_of_the_example() -> None:
    shown = next(b for b in blocks("python") if "@feature" in b)
    shop = (ROOT / "feature_repo" / "shop.py").read_text(encoding="utf-8")
    for definition in re.findall(r"^def .*?(?=\n\n|\Z)", shown, re.M | re.S):
        assert definition.strip() in shop
    for name, feature in re.findall(r'"(\w+)": (\w+\([^)]*\))', shown):
        assert f'"{name}": {feature}' in shop


def test_the_commands_of_the_shell_run_one_after_another(tmp_path: Path) -> None:
    (script,) = blocks("sh")
    done = subprocess.run(["sh", "-euc", script], **in_copy(tmp_path))  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, "")
    assert "every bit agrees" in done.stdout


def test_what_to_do_comes_before_what_is_promised() -> None:
    """Who is new installs, tries and sees an example first; guarantees and figures follow."""
    wanted = ["Install", "Quickstart", "An example", "What is guaranteed", "How fast"]
    heads = re.findall(r"^## (.*)$", README, re.M)
    assert [head for head in heads if head in wanted] == wanted
    assert heads[:3] == wanted[:3]


def test_both_commands_exist() -> None:
    found = re.findall(r"^(\./run [a-z]+)", README, re.M)
    assert found == ["./run demo", "./run test"]
    shown = subprocess.run(
        [ROOT / "run", "help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in shown for command in found)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()

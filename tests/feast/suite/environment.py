"""The environment in which Feast's own tests run: made once from the pins beside this file.

It is .venv-feast-suite, or the folder that FEATUREKIT_FEAST_SUITE names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PINS = Path(__file__).parent / "pins.txt"
_DONE = "made-of.txt"


def python() -> Path:
    """The environment's Python. It is made where it is absent, or where the pins have changed."""
    where = Path(os.environ.get("FEATUREKIT_FEAST_SUITE") or ROOT / ".venv-feast-suite")
    found, done = where / "bin" / "python", where / _DONE
    pins = PINS.read_text(encoding="utf-8")
    if done.is_file() and done.read_text(encoding="utf-8") == pins:
        return found
    print(f"making {where} …", file=sys.stderr, flush=True)
    done.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", where], check=True)
    install = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-compile", "--no-deps", "--requirement", PINS], check=True)
    done.write_text(pins, encoding="utf-8")
    return found

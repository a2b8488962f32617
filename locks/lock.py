"""Writes the lock files beside this one from pyproject.toml: names, versions and hashes.

`./run lock` runs it, with uv beside it. One file holds for every Python and platform that
pyproject.toml allows, by markers; what it names has a wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    "default.txt": ["--extra", "dev"],
    "lowest.txt": ["--extra", "dev", "--resolution", "lowest-direct"],
    "lakes.txt": ["--extra", "dev", "--extra", "lakes"],
    "mlflow.txt": ["--extra", "dev", "--extra", "mlflow"],
    "trackers.txt": ["--extra", "dev", "--extra", "trackers"],
    "evidently.txt": ["--extra", "dev", "--extra", "evidently"],
    "feast.txt": ["--extra", "dev", "--extra", "feast"],
    "bench.txt": ["--extra", "feast", "--extra", "server"],
    "server.txt": ["--extra", "server"],
}
HEADER = "# Written by ./run lock from pyproject.toml.\n"


def main() -> None:
    """Write every lock file anew, with the newest versions that pyproject.toml allows today."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    builders = "\n".join(project["build-system"]["requires"])
    options = ["--universal", "--python-version", "3.11", "--only-binary", ":all:"]
    options += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    for name, chosen in FILES.items():
        print(f"locks/{name} …", file=sys.stderr)
        compiled = subprocess.run(
            ["uv", "pip", "compile", "--quiet", *options, *chosen, "pyproject.toml", "-"],
            cwd=ROOT,
            env=os.environ | registry(),
            input=builders,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        if "/" in compiled:
            raise SystemExit(f"locks/{name} would hold a path or the address of a host")
        (ROOT / "locks" / name).write_text(HEADER + compiled, encoding="utf-8")


def registry() -> dict[str, str]:
    """pip's own index and certificates, as uv's environment variables; nothing where pip has none.

    pip's further indexes are left out: uv would take a package from those alone.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = {}
    # The environment's own lines come first, and a setting of pip's commands comes last.
    for key, value in re.findall(r"^[\w:.]*\.(index-url|cert)='(.*)'$", listed, re.MULTILINE):
        found.setdefault({"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}[key], value)
    return {name: value for name, value in found.items() if name not in os.environ}


if __name__ == "__main__":
    main()

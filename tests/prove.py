"""Proves featurekit on versions of DuckDB, and writes the release's list, define/proven.json.

python -m tests.prove [VERSION …]

Each version is installed into a folder of its own for it; without one, the installed one is proven.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from featurekit.define.proven import LIST
from featurekit.parity.budget import Budget
from featurekit.parity.modes.prove import proof_of, prove


def here() -> dict[str, Any]:
    """The proof of the installed version."""
    return proof_of(prove(budget=Budget(values=1_000_000)))


def elsewhere(version: str) -> dict[str, Any]:
    """The proof of another version, in a process that finds it before the installed one."""
    with tempfile.TemporaryDirectory() as folder:
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([sys.executable, *install, f"duckdb=={version}"], check=True)
        path = os.pathsep.join([folder, str(Path.cwd())])
        made = subprocess.run(
            [sys.executable, "-m", "tests.prove", "--here"],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
    proof: dict[str, Any] = json.loads(made.stdout)
    assert proof["duckdb"] == version, proof
    return proof


def main() -> int:
    """1 where a version is not proven; then the list stays as it is."""
    versions = sys.argv[1:]
    if versions == ["--here"]:
        print(json.dumps(here()))
        return 0
    proofs = [elsewhere(v) for v in versions] or [here()]
    for proof in proofs:
        said = "proven" if proof["ok"] else f"not proven: {', '.join(proof['failed'])}"
        print(f"DuckDB {proof['duckdb']}: {said}, {proof['inputs']:,} inputs")
    if not all(proof["ok"] for proof in proofs):
        return 1
    kept = {
        proof["duckdb"]: {k: v for k, v in proof.items() if k not in ("duckdb", "ok", "failed")}
        for proof in proofs
    }
    LIST.write_text(json.dumps({"duckdb": kept}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

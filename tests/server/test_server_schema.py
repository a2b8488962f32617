"""The service keeps to its description: schemathesis asks what /openapi.json allows and what it
does not."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import serving

SCHEMATHESIS = shutil.which("schemathesis")


@pytest.mark.slow
@pytest.mark.skipif(SCHEMATHESIS is None, reason="needs schemathesis on PATH (pip install it)")
def test_every_answer_is_one_that_the_description_has(world: Any, tmp_path: Any) -> None:
    with serving.serving("--repo", str(world.folder), "--log") as server:
        done = subprocess.run(
            [
                SCHEMATHESIS, "run", f"{server.url}/openapi.json", "--checks", "all",
                # A name that the description allows may be no name of a service.
                "--exclude-checks", "positive_data_acceptance",
                "--max-examples", "50", "--seed", "1", "--no-color",
            ],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert "Tested: 10" in done.stdout

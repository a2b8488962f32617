"""How many values a second `featurekit parity sample` compares, on the example shop's services.

A repo of generated order lines is materialised into a scratch Redis; then each service is checked.

    python -m benchmarks.live_parity [--size large] [--runs 3] [--json]
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import arguments
from featurekit.demo.sample_data import write_sample_data
from featurekit.online.server import scratch_redis
from featurekit.parity.budget import Budget
from featurekit.parity.live import LiveCheck
from featurekit.store import FeatureStore

GOAL = 200_000
REPO = Path(__file__).parents[1] / "feature_repo"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", {"small": 500_000, "large": 5_000_000})

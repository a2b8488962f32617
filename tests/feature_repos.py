"""What the feature repos of tests have in common: their settings, and what writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MakeRepo = Callable[..., Path]

CONFIG = """
project: tests
provider: local
online_store:
  type: redis
"""

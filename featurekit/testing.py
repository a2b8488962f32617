"""Parity in tests: `assert_parity` holds a service to the same bits on both paths."""

from __future__ import annotations

from featurekit.parity.testing import ARRIVAL as ARRIVAL
from featurekit.parity.testing import ParityError as ParityError
from featurekit.parity.testing import assert_parity as assert_parity

__all__ = ["ARRIVAL", "ParityError", "assert_parity"]

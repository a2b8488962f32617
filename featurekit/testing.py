"""Features in tests: `values` computes them on both paths, `assert_parity` holds these to the same
bits."""

from __future__ import annotations

from featurekit.parity.testing import ARRIVAL as ARRIVAL
from featurekit.parity.testing import ParityError as ParityError
from featurekit.parity.testing import Values as Values
from featurekit.parity.testing import assert_parity as assert_parity
from featurekit.parity.testing import values as values

__all__ = ["ARRIVAL", "ParityError", "Values", "assert_parity", "values"]

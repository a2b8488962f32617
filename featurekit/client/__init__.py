"""Asks a server of `featurekit serve` for features and predictions: `from featurekit.client import
Client`."""

from __future__ import annotations

from featurekit.client.client import Client
from featurekit.client.predictions import Predictions

__all__ = ["Client", "Predictions"]

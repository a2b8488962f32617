"""Asks a server of `featurekit serve` for features: `from featurekit.client import Client`."""

from __future__ import annotations

from featurekit.client.client import Client

__all__ = ["Client"]

"""Turns an address into a socket that listens."""

from __future__ import annotations

import socket

from featurekit.errors import ConfigError

_BACKLOG = 2048


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. ConfigError where the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        made.close()
        raise ConfigError(f"{host}:{port} cannot be served: {error}") from None
    made.set_inheritable(True)
    return made

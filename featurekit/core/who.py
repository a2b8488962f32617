"""Says who runs this process."""

from __future__ import annotations

import getpass


def user() -> str:
    """The name of the user; "unknown" for a user id without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"

"""Turns what settings say of a user of Redis into the name and password of each new connection."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.secrets import OTHERS, read_secret
from featurekit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, where the URL does not say: a user of Redis, None for its default user, and
    where his password is: in the variable `password_env` of the environment, or in a file. It is
    read again for each connection, so that a password that was changed there is used."""

    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None

    @property
    def given(self) -> bool:
        """Whether there is a password to read."""
        return self.password_env is not None or self.password_file is not None

    def password(self) -> str:
        """The password as it is now. ConfigError where it cannot be read."""
        if self.password_file is not None:
            return read_secret(self.password_file, "the password of Redis", closed_to=OTHERS)
        found = os.environ.get(self.password_env or "")
        if not found:
            raise ConfigError(f"the environment has no variable {self.password_env!r}; set it")
        return found

    @property
    def place(self) -> str:
        """Where the password is, for messages."""
        return str(self.password_file) if self.password_file else f"variable {self.password_env}"


NO_LOGIN = Login()

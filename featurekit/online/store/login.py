"""Turns what settings say of a user of Redis into the name and password of each new connection."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.secrets import OTHERS, read_secret
from featurekit.errors import ConfigError

NAME_VARIABLE, FILE_VARIABLE = "FEATUREKIT_REDIS_USERNAME", "FEATUREKIT_REDIS_PASSWORD_FILE"


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, where the URL does not say: a user of Redis, None for its default user, and
    where his password is: in the variable `password_env` of the environment, or in a file. It is
    read again for each connection, so that a password that was changed there is used."""

    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None

    @classmethod
    def of_environment(cls) -> Login:
        """The login that the environment names by FEATUREKIT_REDIS_PASSWORD_FILE and
        FEATUREKIT_REDIS_USERNAME; one without a password where it names none."""
        file = os.environ.get(FILE_VARIABLE)
        if not file:
            return NO_LOGIN
        return cls(os.environ.get(NAME_VARIABLE) or None, password_file=Path(file))

    @classmethod
    def of(cls, username: str | None, file: str | os.PathLike[str] | None) -> Login:
        """The login that a caller names, else that of the environment. ConfigError for a user
        without a password."""
        if file is not None:
            return cls(username, password_file=Path(file))
        if username is not None:
            raise ConfigError(
                'username= has no password; write password_file="/run/secrets/redis" beside it, or '
                "both into the URL"
            )
        return cls.of_environment()

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
